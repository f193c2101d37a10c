// Shows notices of somebody's contests and teams above the hub's pages. Text is only ever text.
"use strict";
(() => {
  const place = document.getElementById("collab-notices");
  const data = window.jhdata || {};
  if (!place || !data.base_url) return;
  const HIDDEN = "collab-notices-hidden";
  const EVERY_MS = 60000;

  const readHidden = () => {
    try { return new Set(JSON.parse(localStorage.getItem(HIDDEN) || "[]")); } catch { return new Set(); }
  };
  const hide = (id) => {
    const kept = [...readHidden(), id].slice(-200);
    try { localStorage.setItem(HIDDEN, JSON.stringify(kept)); } catch { /* private windows have none */ }
  };
  const make = (notice) => {
    const box = document.createElement("div");
    box.className = "alert alert-info alert-dismissible mb-2";
    const who = document.createElement("strong");
    who.textContent = notice.team ? `Team ${notice.team}: ` : `Contest ${notice.contest}: `;
    const text = document.createElement("span");
    text.style.whiteSpace = "pre-line";
    text.style.overflowWrap = "anywhere";
    text.textContent = notice.text;
    const when = document.createElement("small");
    when.className = "d-block text-body-secondary";
    const at = new Date(notice.at);
    if (!isNaN(at)) when.textContent = at.toLocaleString();
    const close = document.createElement("button");
    close.type = "button";
    close.className = "btn-close";
    close.setAttribute("aria-label", "Hide this notice");
    close.addEventListener("click", () => { hide(notice.id); box.remove(); place.hidden = !place.children.length; });
    box.append(who, text, when, close);
    return box;
  };
  let shown = "";
  const show = (notices) => {
    const hidden = readHidden();
    const wanted = notices.filter((notice) => !hidden.has(notice.id)).slice(0, 10);
    const ids = wanted.map((notice) => notice.id).join(" ");
    if (ids === shown) return;  // a screen reader is told once
    shown = ids;
    place.replaceChildren(...wanted.map(make));
    place.hidden = !wanted.length;
  };
  const look = async () => {
    if (document.hidden) return;
    const url = `${data.base_url}api/collab/notices?_xsrf=${encodeURIComponent(data.xsrf_token || "")}`;
    try {
      const answer = await fetch(url, { credentials: "same-origin", headers: { Accept: "application/json" } });
      if (answer.ok) show((await answer.json()).notices);
    } catch { /* no notices just now */ }
  };
  look();
  setInterval(look, EVERY_MS);
  document.addEventListener("visibilitychange", look);
})();
