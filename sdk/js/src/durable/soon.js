// Async generators. They run on after `yield` by microtasks, which need nothing from outside; so a step that has not ended
// when those are done waits for something that no history will tell, and no replay repeat.

import { notPrompt } from "./wrong.js";

/** Settles with a step of an async generator, or fails if it needs more than microtasks. */
export async function soon(step, place) {
    let timer;
    const late = new Promise((_, reject) => {
        timer = setTimeout(() => reject(notPrompt(place())), 0);
    });
    try {
        return await Promise.race([step, late]);
    } finally {
        clearTimeout(timer);
    }
}
