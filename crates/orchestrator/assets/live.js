// Keeps a page current, and lets it be worked by keyboard. Without this script every page
// works, and is as current as its last load.
//
// A page names in `data-follow` the kinds of feed events that concern it. Upon one of them it
// is fetched again, and each part with `data-live` is exchanged for its new self; what was
// typed, unfolded or focused there stays so. In a part with `data-live="list"` nothing moves
// under a hand that is about to click: entries change in their places, those that are gone
// stay and say so, and new ones wait until they are asked for.
"use strict";

const body = document.body;
const live = document.getElementById("live");
const news = document.getElementById("news");
const plain = document.title;
// How far the server's clock is ahead of ours.
const ahead = Date.parse(body.dataset.now) - Date.now();
const now = () => Date.now() + ahead;

// --- what the page says ---

function show(state, text) {
  live.hidden = false;
  live.className = `live ${state}`;
  if (live.textContent !== text) live.textContent = text;
}

function announce(text) {
  news.textContent = text;
}

function length(seconds) {
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return minutes % 60 ? `${hours} h ${minutes % 60} min` : `${hours} h`;
  return hours % 24 ? `${Math.floor(hours / 24)} d ${hours % 24} h` : `${hours / 24} d`;
}

function write(time, text) {
  if (time.textContent !== text) time.textContent = text;
}

function tick() {
  for (const time of document.querySelectorAll("time[data-until]")) {
    const left = Math.floor((Date.parse(time.dataset.until) - now()) / 1000);
    const close = left < 600 && left > 0 ? `${Math.floor(left / 60)} min ${left % 60} s` : length(Math.max(left, 0));
    write(time, left <= 0 ? "no time" : left < 60 ? `${left} s` : close);
    time.classList.toggle("soon", left > 0 && left < 600);
    time.classList.toggle("over", left <= 0);
  }
  for (const time of document.querySelectorAll("time[data-since]")) {
    const past = Math.floor((now() - Date.parse(time.dataset.since)) / 1000);
    write(time, past < 5 ? "just now" : `${length(past)} ago`);
  }
}

function title() {
  const waiting = Number(document.querySelector(".places .count")?.textContent ?? 0);
  document.title = waiting > 0 ? `(${waiting}) ${plain}` : plain;
}

// --- exchanging parts of the page ---

// What a person did to a part and the server does not know.
function keep(from, to) {
  for (const old of from.querySelectorAll("[id]")) {
    const next = to.querySelector(`#${CSS.escape(old.id)}`);
    if (!next) continue;
    if (old instanceof HTMLDetailsElement) next.open = old.open;
    else if (old instanceof HTMLInputElement && /checkbox|radio/.test(old.type)) {
      if (old.checked !== old.defaultChecked) next.checked = old.checked;
    } else if ("defaultValue" in old && old.value !== old.defaultValue) next.value = old.value;
  }
}

// What a part says, without how long ago it happened.
function essence(part) {
  return part.innerHTML.replace(/(<time [^>]*>)[^<]*/g, "$1");
}

// What each part said when it came from the server.
const seen = new WeakMap();

const FOCUSABLE = "a, button, input, select, textarea, summary, [tabindex]";

function exchange(old, next) {
  const says = essence(next);
  if (says === seen.get(old)) return false;
  const focused = old.contains(document.activeElement) ? document.activeElement : null;
  // What has no id is found again by its place in what has one.
  const home = focused?.id ? focused : focused?.closest("[id]");
  const place = home ? [...home.querySelectorAll(FOCUSABLE)].indexOf(focused) : -1;
  const adopted = document.adoptNode(next);
  keep(old, adopted);
  old.replaceWith(adopted);
  seen.set(adopted, says);
  if (focused) {
    const again = document.getElementById(home?.id);
    (place < 0 ? again : again?.querySelectorAll(FOCUSABLE)[place])?.focus({ preventScroll: true });
    if (document.activeElement === body) document.getElementById("main").focus({ preventScroll: true });
  }
  return true;
}

function exchangeList(old, next) {
  const items = (list) => [...list.children].filter((item) => item.id);
  const here = new Set(items(old).map((item) => item.id));
  if (here.size === 0) return exchange(old, next);
  const there = new Map(items(next).map((item) => [item.id, item]));
  for (const item of items(old)) {
    const newer = there.get(item.id);
    if (newer) {
      item.classList.remove("gone");
      exchange(item, newer);
    } else if (!item.classList.contains("gone")) {
      item.classList.add("gone");
      for (const control of item.querySelectorAll("button, input, textarea, select")) control.disabled = true;
      item.querySelector("[data-gone]").hidden = false;
    }
  }
  const fresh = [...there.keys()].filter((id) => !here.has(id)).length;
  const more = document.getElementById(`${old.id}-new`);
  if (more && fresh > 0) {
    const text = fresh === 1 ? "1 new: show it" : `${fresh} new: show them`;
    if (more.hidden || more.textContent !== text) announce(fresh === 1 ? "1 new request" : `${fresh} new requests`);
    more.hidden = false;
    more.textContent = text;
  }
  return true;
}

function remember() {
  for (const part of document.querySelectorAll("[data-live]")) {
    seen.set(part, essence(part));
    if (part.dataset.live === "list") for (const item of part.children) seen.set(item, essence(item));
  }
}

let running = false;
let again = false;

async function refresh() {
  if (running) {
    again = true;
    return;
  }
  running = true;
  try {
    const response = await fetch(location.href, { redirect: "manual" });
    if (response.type === "opaqueredirect") return location.reload();
    if (!response.ok) return;
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    for (const part of document.querySelectorAll("[data-live]")) {
      const next = page.getElementById(part.id);
      if (!next) continue;
      if (part.dataset.live === "list") exchangeList(part, next);
      else if (exchange(part, next) && part.dataset.says) announce(part.dataset.says);
    }
    tick();
    title();
    document.dispatchEvent(new Event("refreshed"));
  } catch {
    show("off", "offline");
  } finally {
    running = false;
    if (again) {
      again = false;
      refresh();
    }
  }
}

// --- the feed ---

// A page that shows a secret answers a form: at its address there is nothing to fetch again.
const follow = document.getElementById("secret") ? "" : (body.dataset.follow ?? "");
const kinds = follow.split(" ").filter((kind) => kind);

if (kinds.length > 0) {
  const feed = new EventSource("/api/feed");
  let opened = false;
  feed.onopen = () => {
    show("on", "live");
    // What happened while we were away is on the page already.
    if (opened) refresh();
    opened = true;
  };
  feed.onerror = () => {
    show("off", "reconnecting");
    // A browser gives up when the session has ended: then the page says so.
    if (feed.readyState === EventSource.CLOSED) refresh();
  };
  feed.onmessage = (event) => {
    const type = JSON.parse(event.data).type;
    if (kinds.some((kind) => type.startsWith(kind))) refresh();
  };
}

// --- the page itself ---

// Where one is, in a navigation that is wider than the screen.
document.querySelector(".places [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });

// What the last form did is said once, not again upon every reload.
const notice = document.querySelector("[data-notice]");
if (notice) {
  const address = new URL(location.href);
  address.searchParams.delete("done");
  history.replaceState(null, "", address);
  // Not while somebody points at it. What went wrong is no notice: it stays.
  const leave = () => (notice.matches(":hover") ? setTimeout(leave, 3_000) : notice.remove());
  setTimeout(leave, 12_000);
}
for (const button of document.querySelectorAll("[data-dismiss]")) {
  button.hidden = false;
  button.onclick = () => {
    button.closest("[role=alert]").remove();
    document.getElementById("main").focus();
  };
}

// One question is open at a time, and goes away when one turns elsewhere.
document.addEventListener("click", (event) => {
  for (const open of document.querySelectorAll("details.confirm[open]")) {
    if (!open.contains(event.target)) open.open = false;
  }
});
document.addEventListener("keydown", (event) => {
  const open = event.key === "Escape" && event.target.closest?.("details.confirm[open]");
  if (open) {
    open.open = false;
    open.querySelector("summary").focus();
  }
});

// What a script can do for a person, it offers.
for (const button of document.querySelectorAll("[data-copy]")) {
  button.hidden = !navigator.clipboard;
  button.onclick = async () => {
    await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
    button.textContent = "Copied";
  };
}
for (const button of document.querySelectorAll("[data-reload]")) button.onclick = () => location.reload();

// --- keys in the inbox ---

const help = document.getElementById("help");
if (help) {
  const on = document.getElementById("keys-on");
  const keys = document.getElementById("keys");
  keys.hidden = false;
  keys.onclick = () => help.showModal();
  on.checked = localStorage.getItem("keys") !== "off";
  on.onchange = () => localStorage.setItem("keys", on.checked ? "on" : "off");

  const asks = () => [...document.querySelectorAll("[data-ask]")].filter((ask) => !ask.closest(".gone"));
  const current = () => document.activeElement.closest("[data-ask]");
  const go = (step) => {
    const all = asks();
    if (all.length === 0) return;
    const at = all.indexOf(current());
    const next = at < 0 ? (step > 0 ? 0 : all.length - 1) : Math.min(Math.max(at + step, 0), all.length - 1);
    all[next].focus();
    all[next].scrollIntoView({ block: "nearest" });
  };
  const within = (selector) => (current() ?? asks()[0])?.querySelector(selector);
  const does = {
    j: () => go(1),
    k: () => go(-1),
    a: () => within("[data-approve]")?.focus(),
    r: () => within("[data-reject]")?.focus(),
    w: () => within(".reason")?.focus(),
    n: () => document.querySelector("[data-reload]:not([hidden])")?.click(),
    "/": () => document.getElementById("q").focus(),
    "?": () => help.showModal(),
  };
  document.addEventListener("keydown", (event) => {
    const at = event.target;
    if (event.ctrlKey || event.metaKey || event.altKey || help.open) return;
    if (at.matches("input, textarea, select")) {
      if (event.key === "Escape") (at.closest("[data-ask]") ?? document.getElementById("main")).focus();
      return;
    }
    if (event.key === "Enter" && at.matches("[data-ask]")) {
      at.querySelector("[data-open]").click();
    } else if (does[event.key] && (on.checked || event.key === "?")) {
      event.preventDefault();
      does[event.key]();
    }
  });
}

remember();
setInterval(tick, 1000);
tick();
title();
