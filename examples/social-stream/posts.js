// A recorded stream of posts: the same for the same seed, on every machine.

/** Mulberry32: a small generator of random numbers from 0 to 1. */
function randomFrom(seed) {
    let state = seed >>> 0;
    return () => {
        state = (state + 0x6d2b79f5) >>> 0;
        let t = state;
        t = Math.imul(t ^ (t >>> 15), t | 1);
        t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
        return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
    };
}

const SUBJECTS = ["the new phone", "this train", "my coffee", "the match", "that film", "the weather", "our team", "the update"];
const OPINIONS = [
    "is great", "is not great", "is awful", "was really good", "was never good", "makes me happy", "makes me sad",
    "is slow again", "is broken", "is fine", "surprised me", "I love it", "I hate it", "could be better", "won at last",
];
const TAGS = ["#monday", "#news", "#life", "#tech", "#sport"];

/** So many posts, a few each second. Some arrive late: their time is up to half a minute before that of the posts around them. */
exports.recorded = function* ({ seed = 1, count = 1000, start = "2026-11-26T08:00:00Z" } = {}) {
    const random = randomFrom(seed);
    const pick = (list) => list[Math.floor(random() * list.length)];
    let time = Date.parse(start);
    for (let number = 1; number <= count; number++) {
        time += Math.floor(random() * 400);
        const late = random() < 0.05 ? Math.floor(random() * 30_000) : 0;
        yield {
            id: `post-${number}`,
            user: `user-${Math.floor(random() * 40)}`,
            at: new Date(time - late).toISOString(),
            text: `${pick(SUBJECTS)} ${pick(OPINIONS)} ${pick(TAGS)}`,
        };
    }
};
