// What must not wait for the modules: the theme, the panel of a first visit, and a word if modules
// cannot be loaded. A classic script; without it, nothing but the text of <noscript> is shown.
{
  const root = document.documentElement, at = (id) => document.getElementById(id);
  const kept = (key) => {
    try {
      return localStorage.getItem(key);
    } catch {
      return null; // Some privacy settings forbid the storage.
    }
  };
  root.classList.add("js");
  const theme = (kept("syncchat.set.theme") ?? "").replaceAll('"', "");
  if (["light", "dark"].includes(theme)) root.dataset.theme = theme;

  const [, base, name] = /^(.*\/)([^/]*)$/u.exec(location.pathname);
  let room = name;
  try {
    room = decodeURIComponent(name).replace(/^#+/u, "").toLowerCase() || "lobby";
  } catch {
    // The server says what is wrong with it.
  }
  at("ask-room").textContent = at("room").textContent = room;
  at("ask-host").textContent = location.host;
  const token = new URLSearchParams(location.search).get("token") ?? kept(`syncchat.token ${base}`) ?? "";
  // The server knows the name that belongs to the token of a person.
  if (kept("syncchat.nick") === null && !token.startsWith("syncchat_")) at("ask").showModal();

  const failed = () => {
    at("loading")?.replaceChildren("The page could not be loaded completely. Check the connection, and reload the page.");
    at("loading")?.classList.add("failed");
  };
  for (const script of document.querySelectorAll("script[type=module]")) script.addEventListener("error", failed);
}
