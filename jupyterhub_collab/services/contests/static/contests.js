// The pages work without this. It keeps a contest's page up to date, says times in the viewer's
// zone, copies an invitation's link, and carries an invitation's word over the login.
"use strict";

const status = document.getElementById("status");
const say = (text) => { if (status) status.textContent = text; };

// Said only where the viewer lives by another clock than the contest.
const own = Intl.DateTimeFormat().resolvedOptions().timeZone;
const zoned = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", timeZoneName: "short" });
const tellViewer = (root) => {
  for (const time of root.querySelectorAll("time[data-viewer]")) {
    const moment = new Date(time.dateTime);
    if (isNaN(moment) || time.dataset.viewer === own || time.nextElementSibling?.className === "viewer") continue;
    const made = document.createElement("span");
    made.className = "viewer";
    made.textContent = ` (here ${zoned.format(moment)})`;
    time.after(made);
  }
};
tellViewer(document);

// A form that is on its way is not sent again; the key in it would make that harmless anyway.
for (const form of document.querySelectorAll("form[method=post]")) {
  form.addEventListener("submit", (event) => {
    if (form.dataset.sent) { event.preventDefault(); return; }
    form.dataset.sent = "yes";
    say("Working …");
  });
}
addEventListener("pageshow", () => {
  for (const form of document.querySelectorAll("form[data-sent]")) delete form.dataset.sent;
  say("");
});

for (const button of document.querySelectorAll("button[data-copy]")) {
  if (!navigator.clipboard) continue;
  button.hidden = false;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
    say("The link is copied.");
  });
}

const KEPT = "collab-invitation";
const bring = document.querySelector("[data-keep-token]");
if (bring && location.hash.length > 1) {
  try { sessionStorage.setItem(KEPT, location.hash.slice(1)); } catch { /* the next page asks for it */ }
  location.replace(bring.href);
}
const take = document.querySelector("[data-take-token]");
if (take) {
  try {
    take.value = sessionStorage.getItem(KEPT) || take.value;
    sessionStorage.removeItem(KEPT);
  } catch { /* it can be pasted */ }
}

const live = document.getElementById("live");
if (live && window.EventSource) {
  let waiting = false, again = false;
  const refresh = async () => {
    if (waiting) { again = true; return; }
    waiting = true;
    try {
      const answer = await fetch(live.dataset.page, { credentials: "same-origin", redirect: "error" });
      if (answer.ok) {
        const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("live");
        // Whoever reads or tabs in there is not thrown out.
        if (fresh && !live.contains(document.activeElement)) {
          live.replaceChildren(...fresh.childNodes);
          tellViewer(live);
        }
      }
    } catch { /* the next event brings it */ }
    setTimeout(() => { waiting = false; if (again) { again = false; refresh(); } }, 1000);
  };
  const source = new EventSource(live.dataset.events);
  source.addEventListener("progress", refresh);
  source.addEventListener("end", () => source.close());
  addEventListener("pagehide", () => source.close());
}
