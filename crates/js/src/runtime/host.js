// The natives, for the modules of the runtime. `main.js` fills it in before any of them runs.

export const host = {};
