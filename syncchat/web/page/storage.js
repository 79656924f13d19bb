// What the browser remembers; where it may not, as long as the page is open.

const fallback = new Map();

/** What was kept under `key`, in `local` or `session`; null: nothing. */
export function kept(kind, key) {
  try {
    return window[`${kind}Storage`].getItem(key) ?? fallback.get(key) ?? null;
  } catch {
    return fallback.get(key) ?? null; // Forbidden, in some settings of privacy.
  }
}

export function keep(kind, key, value) {
  fallback.set(key, value);
  try {
    window[`${kind}Storage`].setItem(key, value);
  } catch {
    // Then it lasts as long as the page.
  }
}
