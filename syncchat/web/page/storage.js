// Values in the browser's storage; if it is forbidden, only while the page is open.

const fallback = new Map();

/** The value of `key` in the storage `kind`, "local" or "session"; null: there is none. */
export function kept(kind, key) {
  try {
    return window[`${kind}Storage`].getItem(key) ?? fallback.get(key) ?? null;
  } catch {
    return fallback.get(key) ?? null; // Some privacy settings forbid the storage.
  }
}

export function keep(kind, key, value) {
  fallback.set(key, value);
  try {
    window[`${kind}Storage`].setItem(key, value);
  } catch {
    // The fallback keeps it while the page is open.
  }
}

/** The keys in the storage `kind` that begin with `prefix`. */
export function keysOf(kind, prefix) {
  try {
    return Object.keys(window[`${kind}Storage`]).filter((key) => key.startsWith(prefix));
  } catch {
    return []; // At the start, the fallback is empty.
  }
}

/** Forget the value of `key`. */
export function drop(kind, key) {
  fallback.delete(key);
  try {
    window[`${kind}Storage`].removeItem(key);
  } catch {
    // Nothing was kept.
  }
}
