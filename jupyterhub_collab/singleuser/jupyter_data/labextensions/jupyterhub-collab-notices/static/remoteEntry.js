// Shows notices of somebody's contests and teams as JupyterLab's own notifications.
//
// Written by hand as JupyterLab loads it (a module-federation container): nothing is built, and it
// shares no module with JupyterLab but its commands. The server next to this page asks the hub; the
// page cannot, it has another origin.
"use strict";
(() => {
  const ID = "jupyterhub-collab-notices";
  const EVERY_MS = 120000;
  const KEY = `${ID}:seen`;
  const KEPT = 200;

  const readSeen = () => {
    try { return JSON.parse(localStorage.getItem(KEY) || "[]"); } catch { return []; }
  };
  const keepSeen = (ids) => {
    try { localStorage.setItem(KEY, JSON.stringify(ids.slice(-KEPT))); } catch { /* shown again next time */ }
  };

  const plugin = {
    id: `${ID}:plugin`,
    description: "Notices of contests and teams.",
    autoStart: true,
    activate: (app) => {
      const { baseUrl, token } = app.serviceManager.serverSettings;
      const seen = new Set(readSeen());
      const look = async () => {
        if (document.hidden) return;
        try {
          const headers = token ? { Authorization: `token ${token}` } : {};
          const answer = await fetch(`${baseUrl}collab/notices`, { headers, credentials: "same-origin" });
          if (!answer.ok) return;
          const { notices } = await answer.json();
          // The oldest first, so that the newest ends on top.
          for (const notice of [...notices].reverse()) {
            if (seen.has(notice.id)) continue;
            const who = notice.team ? `Team ${notice.team}` : `Contest ${notice.contest}`;
            await app.commands.execute("apputils:notify", {
              message: `${who}: ${notice.text}`,
              type: "info",
              options: { autoClose: false },
            });
            seen.add(notice.id);
          }
          keepSeen([...seen]);
        } catch { /* no notices just now */ }
      };
      app.restored.then(look);
      // Not all in the same second.
      setTimeout(() => setInterval(look, EVERY_MS), Math.random() * EVERY_MS);
      document.addEventListener("visibilitychange", look);
    },
  };

  const modules = { "./extension": { __esModule: true, default: plugin } };
  window._JUPYTERLAB = window._JUPYTERLAB || {};
  window._JUPYTERLAB[ID] = {
    init: async () => {},
    get: async (name) => {
      if (!(name in modules)) throw new Error(`${ID} has no module ${name}`);
      return () => modules[name];
    },
  };
})();
