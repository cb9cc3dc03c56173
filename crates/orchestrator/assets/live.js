// Keeps a page current: follows the feed, and fetches the same page again when it says so.
// Without this script every page works and is as current as its last load.
"use strict";

const live = document.getElementById("live");
const plain = document.title;
// How far the server's clock is ahead of ours.
const ahead = Date.parse(live.dataset.now) - Date.now();

function show(state, text) {
  live.hidden = false;
  live.className = "live " + state;
  live.textContent = text;
}

function span(seconds) {
  if (seconds <= 0) return "no time";
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${seconds % 60} s`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

function tick() {
  for (const time of document.querySelectorAll("time[data-until]")) {
    time.textContent = span(Math.floor((Date.parse(time.dataset.until) - Date.now() - ahead) / 1000));
  }
}

function title() {
  const inbox = document.getElementById("inbox");
  const count = inbox ? Number(inbox.dataset.count) : 0;
  document.title = count > 0 ? `(${count}) ${plain}` : plain;
}

function replace(part, next) {
  const focused = part.contains(document.activeElement) ? document.activeElement.id : "";
  const draft = part.querySelector("textarea");
  const written = next.querySelector("textarea");
  if (draft && written) written.value = draft.value;
  part.replaceWith(next);
  if (focused) document.getElementById(focused)?.focus();
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
      if (next && next.innerHTML !== part.dataset.seen) {
        const seen = next.innerHTML;
        const adopted = document.adoptNode(next);
        replace(part, adopted);
        adopted.dataset.seen = seen;
      }
    }
    tick();
    title();
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
  if (type.startsWith("approval_") || type === "grant_ended" || type === "policy_set_activated") refresh();
};

for (const part of document.querySelectorAll("[data-live]")) part.dataset.seen = part.innerHTML;
setInterval(tick, 1000);
tick();
title();
