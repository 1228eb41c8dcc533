// Events of the server, and the parts of a page that are replaced when one happens.
const POLL_MS = 3000;
const POLL_BESIDE_STREAM_MS = 15000;
const KINDS = { "vehicle-saved": "vehicle", "vehicle-deleted": "vehicle", "vehicle-materialized": "materialized", "run-finished": "run" };
const REFRESH_MS = 150;
const SPREAD_MS = 350; // so that many open pages do not all send a request at the same moment
const listeners = new Map();
let version = document.getElementById("model-chip").dataset.version;

export function on(kind, callback) {
  listeners.set(kind, [...(listeners.get(kind) ?? []), callback]);
}

function notify(kind, detail) {
  for (const callback of listeners.get(kind) ?? []) callback(detail);
  replaceSoon(document.querySelectorAll(`[data-live~="${kind}"]`));
}

async function checkHealth() {
  let health;
  try {
    const response = await fetch(`${document.body.dataset.root}/health`, { headers: { Accept: "application/json" }, cache: "no-store" });
    health = await response.json();
  } catch {
    health = { status: "unreachable", model_version: version ? Number(version) : null };
  }
  const chip = document.getElementById("model-chip");
  const now = health.model_version === null ? "" : String(health.model_version);
  chip.dataset.status = health.status;
  chip.title = (health.reasons ?? []).join("; ");
  chip.textContent = health.status === "unreachable" ? "Server unreachable" : now ? `Model ${now}` : "No model yet";
  const raised = document.getElementById("alerts")?.dataset.raised;
  if (raised !== undefined && health.alerts && health.alerts.join("; ") !== raised) notify("alerts");
  if (now !== version) {
    version = now;
    chip.dataset.version = now;
    notify("model", { version: now });
  }
}

// An element with data-live="kind kind" is replaced when an event of one of these kinds happens.
let pending = 0;
const touched = new Set();

// An element with data-refresh="ms" is replaced after that time, as long as the server sets the attribute.
let refreshTimer = 0;

function scheduleRefresh() {
  const due = [...document.querySelectorAll("[data-refresh]")];
  clearTimeout(refreshTimer);
  refreshTimer = 0;
  if (!due.length) return;
  refreshTimer = setTimeout(() => {
    refreshTimer = 0;
    if (document.hidden) return; // continues when the page is shown again
    for (const region of due) touched.add(region.id);
    replaceRegions();
  }, Number(due[0].dataset.refresh));
}

function replaceSoon(regions) {
  if (!regions.length) return;
  for (const region of regions) touched.add(region.id);
  clearTimeout(pending);
  pending = setTimeout(replaceRegions, REFRESH_MS + Math.random() * SPREAD_MS);
}

// What a reader opened, scrolled, chose and focused, restored in the element that replaces this one.
const FOCUSABLE = "a[href], button, input, select, summary, [tabindex='0']";

// What an element is called, for the fresh one may have more or fewer before it.
function nameOf(el) {
  const section = el.closest("[aria-labelledby]")?.getAttribute("aria-labelledby");
  return el.id || el.getAttribute("href") || `${section} ${el.textContent.trim()}`;
}

function stateOf(region) {
  const focusable = [...region.querySelectorAll(FOCUSABLE)];
  const focused = document.activeElement;
  return {
    opened: new Map([...region.querySelectorAll("summary")].map((el) => [nameOf(el), el.parentElement.open])),
    scrolled: [...region.querySelectorAll(".scroll")].map((el) => el.scrollLeft),
    chosen: new Set([...region.querySelectorAll("[type=radio][id]:checked")].map((el) => el.id)),
    focused: region.contains(focused) ? { name: nameOf(focused), at: focusable.indexOf(focused) } : null,
  };
}

function restore(region, { opened, scrolled, chosen, focused }) {
  region.querySelectorAll("summary").forEach((el) => { el.parentElement.open = opened.get(nameOf(el)) ?? el.parentElement.open; });
  region.querySelectorAll(".scroll").forEach((el, i) => { el.scrollLeft = scrolled[i] ?? 0; });
  region.querySelectorAll("[type=radio]").forEach((el) => { el.checked ||= chosen.has(el.id); });
  if (!focused) return;
  const focusable = [...region.querySelectorAll(FOCUSABLE)];
  const there = focusable[Math.min(focused.at, focusable.length - 1)];
  const isSame = (el) => el && nameOf(el) === focused.name;
  (isSame(there) ? there : focusable.find(isSame) ?? there)?.focus({ preventScroll: true });
}

// An open question belongs to a form of the page: regions are replaced once it is closed.
function postponeDuringQuestion(ids) {
  if (!document.querySelector("dialog[open]")) return false;
  for (const id of ids) touched.add(id);
  clearTimeout(pending);
  pending = setTimeout(replaceRegions, 1000);
  return true;
}

async function replaceRegions() {
  const ids = [...touched];
  if (postponeDuringQuestion(ids)) return;
  touched.clear();
  let page;
  try {
    const response = await fetch(location.href, { headers: { Accept: "text/html" } });
    if (!response.ok) throw new Error(response.statusText);
    page = new DOMParser().parseFromString(await response.text(), "text/html");
  } catch {
    scheduleRefresh(); // the poll shows that the server cannot be reached
    return;
  }
  if (postponeDuringQuestion(ids)) return; // opened meanwhile
  for (const id of ids) {
    const old = document.getElementById(id);
    const fresh = page.getElementById(id);
    if (!old || !fresh) continue;
    const state = stateOf(old);
    old.replaceWith(fresh);
    restore(fresh, state);
    for (const callback of listeners.get("replaced") ?? []) callback(fresh);
  }
  scheduleRefresh();
}

// One stream of events while the page is visible, and a slow poll beside it; a quicker poll without it.
let stream = null;
let polledAt = 0;
let mayHaveMissed = document.hidden;

function listen() {
  stream = new EventSource(document.body.dataset.events);
  stream.addEventListener("open", () => {
    checkHealth();
    // Events that happened while no stream was open are lost.
    if (mayHaveMissed) replaceSoon(document.querySelectorAll("[data-live]"));
    mayHaveMissed = true;
  });
  stream.addEventListener("model-swapped", checkHealth);
  for (const [name, kind] of Object.entries(KINDS)) stream.addEventListener(name, () => notify(kind));
}

function poll() {
  if (document.hidden) {
    stream?.close();
    stream = null;
    return;
  }
  if (stream === null || stream.readyState === EventSource.CLOSED) listen();
  if (document.querySelector("[data-refresh]") && !refreshTimer) scheduleRefresh();
  const wait = stream.readyState === EventSource.OPEN ? POLL_BESIDE_STREAM_MS : POLL_MS;
  if (Date.now() - polledAt >= wait - 50) {
    polledAt = Date.now();
    checkHealth();
  }
}

export function start() {
  poll();
  scheduleRefresh();
  setInterval(poll, POLL_MS);
  document.addEventListener("visibilitychange", poll);
}
