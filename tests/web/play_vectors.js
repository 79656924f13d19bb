// Plays test vectors with the page's state machine, in the page. docs/protocol.md explains them.

async ({ defaults, scenarios, module }) => {
  const { Protocol } = await import(module);

  /** The events of a list, with `repeat` and `pad` carried out. */
  function allOf(items = []) {
    return items.flatMap((item) => {
      const { repeat: [first, last] = [0, 0], ...one } = typeof item === "string" ? {} : item;
      if (typeof item === "string") return [item];
      const found = [];
      for (let number = first; number <= last; number += 1) {
        const text = JSON.stringify(one);
        const { pad, ...event } = JSON.parse(item.repeat ? text.replaceAll("#", number) : text);
        found.push(pad ? { ...event, text: event.text.padEnd(pad, "x") } : event);
      }
      return found;
    });
  }

  /** An event of the server with the members that the vectors leave out. */
  function whole(event) {
    if (typeof event === "string") return event;
    const full = { ...defaults[event.type], ...event };
    if (full.type === "history") full.messages = full.messages.map((each) => whole({ type: "message", ...each }));
    return full;
  }

  const wire = (event) => (typeof event === "string" ? event : JSON.stringify(event));
  const sorted = (value) => JSON.stringify(value, (_, each) => (
    each && typeof each === "object" && !Array.isArray(each) ? Object.fromEntries(Object.entries(each).sort()) : each
  ));
  const query = (text) => Object.fromEntries(new URLSearchParams(text));

  function play({ client = {}, steps }, chance) {
    const { url = "/", ...settings } = client;
    const protocol = new Protocol({ path: url, ...settings }, () => chance);
    let now = 0, open = false;
    for (const [number, step] of steps.entries()) {
      const found = { show: [], send: [], dead: false };
      now = 1000 * (step.at ?? now / 1000);
      switch (step.do) {
        case "connect":
          found.url = { path: protocol.path, query: query(protocol.query) };
          if ("refused" in step) found.delay = protocol.closed(null);
          else protocol.opened();
          open = !("refused" in step);
          break;
        case "receive":
          for (const event of allOf(step.messages)) found.show.push(...protocol.received(wire(whole(event)), now));
          break;
        case "say":
          for (const { nonce = null, ...event } of allOf(step.events)) protocol.say(event, nonce, now);
          break;
        case "close":
          open = false;
          found.delay = protocol.closed(step.code, step.reason);
          break;
      }
      if (open) found.dead = protocol.check(now) === null;
      for (let text = protocol.next(); text !== null; text = protocol.next()) found.send.push(JSON.parse(text));
      compare(protocol, step, found, chance, (what, is, wanted) => {
        if (sorted(is) !== sorted(wanted)) {
          throw new Error(`step ${number}: ${what} is ${sorted(is)}, not ${sorted(wanted)}`);
        }
      });
    }
  }

  function compare(protocol, step, found, chance, same) {
    same("send", found.send, allOf(step.send));
    const wanted = allOf(step.show);
    // An expected event names the members that matter.
    same("show", found.show.map((event, at) => {
      const names = Object.keys(wanted[at] ?? event);
      return Object.fromEntries(names.map((name) => [name, event[name]]));
    }), wanted);
    same("dead", found.dead, step.dead ?? false);
    if (step.url) {
      const [path, rest] = step.url.split("?");
      same("url", found.url, { path, query: query(rest) });
    }
    if ("delay" in found) {
      const delay = found.delay === null ? null : found.delay / 1000;
      same("retry_in", delay, step.retry_in && step.retry_in[chance]);
    }
    const state = {
      ready: protocol.ready,
      unacknowledged: protocol.waiting.length,
      position: protocol.position,
      room: protocol.room,
      nick: protocol.called,
    };
    for (const [name, is] of Object.entries(state)) if (name in step) same(name, is, step[name]);
  }

  const failures = [];
  for (const scenario of scenarios) {
    for (const chance of [0, 1]) {
      try {
        play(scenario, chance);
      } catch (error) {
        failures.push(`${scenario.name}: ${error.message}`);
      }
    }
  }
  return failures;
}
