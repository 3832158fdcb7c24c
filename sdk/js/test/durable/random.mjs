// Chance that can be repeated: the same seed gives the same numbers.

export function random(seed) {
    let state = seed >>> 0;
    const next = () => {
        state = (state + 0x6d2b79f5) >>> 0;
        let t = state;
        t = Math.imul(t ^ (t >>> 15), t | 1);
        t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
        return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
    };
    const below = (n) => Math.floor(next() * n);
    return {
        below,
        chance: (p) => next() < p,
        pick: (list) => list[below(list.length)],
        take: (list) => list.splice(below(list.length), 1)[0],
    };
}
