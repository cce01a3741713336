// Requests to the server, each with the reader's token, if there is one.

const KEY = "prunelake-token";

/** Reports `refused` (the server wants a token) and `republished` (another snapshot). */
export const events = new EventTarget();

let snapshot = null;

/** An error of the API, or of the connection to it. */
export class Problem extends Error {
  constructor(status, code, message, choices = []) {
    super(message);
    this.status = status;
    this.code = code;
    this.choices = choices;
  }
}

export function hasToken() {
  return sessionStorage.getItem(KEY) !== null;
}

/** Keep a token as long as this tab is open; false if no header can carry it. */
export function keepToken(token) {
  try {
    new Headers({ Authorization: `Bearer ${token}` });
  } catch {
    return false;
  }
  sessionStorage.setItem(KEY, token);
  return true;
}

/** An address with its parameters, without absent parameters. */
export function address(path, parameters = {}) {
  const given = Object.entries(parameters).filter(([, value]) => value !== null && value !== undefined);
  const query = new URLSearchParams(given).toString();
  return query ? `${path}?${query}` : path;
}

/** The answer of the server; rejects with a Problem, or with AbortError if `signal` aborts. */
export async function ask(url, signal) {
  const headers = hasToken() ? { Authorization: `Bearer ${sessionStorage.getItem(KEY)}` } : {};
  let response;
  try {
    response = await fetch(url, { headers, signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, "unreachable", "the server does not answer; is `prunelake serve` running?");
  }
  if (!response.ok) {
    const problem = await refusal(response);
    if (problem.status === 401) events.dispatchEvent(new Event("refused"));
    throw problem;
  }
  const served = response.headers.get("PruneLake-Snapshot");
  const isOther = snapshot !== null && served !== null && served !== snapshot;
  snapshot = served ?? snapshot;
  if (isOther) {
    events.dispatchEvent(new Event("republished"));
    signal?.throwIfAborted();
  }
  return response;
}

export async function json(url, signal) {
  const body = await (await ask(url, signal)).json();
  signal?.throwIfAborted();
  return body;
}

/** Gives a new signal each time, and aborts the previous signal: only the last request counts. */
export function latest() {
  let controller = new AbortController();
  return () => {
    controller.abort();
    controller = new AbortController();
    return controller.signal;
  };
}

async function refusal(response) {
  try {
    const { error } = await response.json();
    return new Problem(response.status, error.code, error.message, error.choices);
  } catch {
    // A proxy before the server may answer in words of its own.
    return new Problem(response.status, "unknown", `the server answers ${response.status}`);
  }
}
