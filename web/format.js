// Numbers, times and names as people read them.

const integers = new Intl.NumberFormat("en");

/** 12345 -> "12,345". */
export const count = (number) => integers.format(number);

/** "1 endpoint", "2 endpoints". */
export const plural = (number, word) => `${count(number)} ${word}${number === 1 ? "" : "s"}`;

/** Connections per second: "0", "0.4", "12". */
export function rate(perSecond) {
  if (perSecond < 0.05) return "0";
  return perSecond < 9.95 ? perSecond.toFixed(1) : count(Math.round(perSecond));
}

/** A share of 1: "0%", "<1%", "34%". */
export function percent(share) {
  if (share > 0 && share < 0.01) return "<1%";
  return `${Math.round(share * 100)}%`;
}

/** Microseconds: "340 µs", "1.2 ms", "2.1 s". */
export function duration(us) {
  if (us < 1000) return `${us} µs`;
  if (us < 999_950) return `${(us / 1000).toFixed(us < 9950 ? 1 : 0)} ms`;
  return `${(us / 1_000_000).toFixed(1)} s`;
}

/** "now", "12 s", "5 min", "3 h", "2 d" since a date. */
export function since(date, now = Date.now()) {
  const seconds = Math.max(0, Math.round((now - date) / 1000));
  if (seconds < 5) return "now";
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86_400)} d`;
}

/** An address with a port: IPv6 goes in brackets. */
export const socket = (address, port) =>
  address.includes(":") ? `[${address}]:${port}` : `${address}:${port}`;

/** "/home/me/my file" as one word of a shell command. */
export const quoted = (word) =>
  /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
