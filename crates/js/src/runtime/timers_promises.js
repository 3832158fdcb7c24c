// `node:timers/promises`.

function after(delay, value, { signal } = {}, schedule = globalThis.setTimeout) {
    return new Promise((resolve, reject) => {
        if (signal?.aborted) return reject(signal.reason);
        const timer = schedule(() => resolve(value), delay);
        signal?.addEventListener("abort", () => {
            clearTimeout(timer);
            reject(signal.reason);
        });
    });
}

export const setTimeout = (delay, value, options) => after(delay, value, options);
export const setImmediate = (value, options) => after(0, value, options);
export async function* setInterval(delay, value, options) {
    for (;;) yield await after(delay, value, options);
}
export default { setTimeout, setImmediate, setInterval };
