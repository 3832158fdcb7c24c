// What is made of posts. Pure, so that it can be run over the recording, too.

/** How good or bad a word is. */
const LEXICON = {
    great: 2, love: 2, good: 1, happy: 1, better: 1, fine: 1, won: 1,
    slow: -1, sad: -1, broken: -1, awful: -2, hate: -2,
};
const NEGATIONS = new Set(["not", "never"]);
const WINDOW = 60_000;

const wordsOf = (text) => text.toLowerCase().match(/#?[a-z]+/g) ?? [];

/** The sum over the words. One after a negation counts the other way round. */
function sentimentOf(words) {
    return words.reduce((sum, word, at) => {
        const worth = LEXICON[word] ?? 0;
        return sum + (NEGATIONS.has(words[at - 1]) ? -worth : worth);
    }, 0);
}

/** The start of the minute in which something was written, whenever it came. */
exports.windowOf = (post) => new Date(Math.floor(Date.parse(post.at) / WINDOW) * WINDOW).toISOString();

exports.empty = () => ({ posts: 0, sentiment: 0, words: {} });

exports.add = (sums, post) => {
    const words = wordsOf(post.text);
    sums.posts += 1;
    sums.sentiment += sentimentOf(words);
    for (const word of words) sums.words[word] = (sums.words[word] ?? 0) + 1;
    return sums;
};

exports.merge = (sums, other) => {
    sums.posts += other.posts;
    sums.sentiment += other.sentiment;
    for (const [word, count] of Object.entries(other.words)) sums.words[word] = (sums.words[word] ?? 0) + count;
    return sums;
};

/** What a person wants to know of a window. */
exports.told = ({ posts, sentiment, words }) => ({
    posts,
    sentiment: Math.round((100 * sentiment) / posts) / 100,
    words: Object.entries(words)
        .sort(([one, n], [other, m]) => m - n || (one < other ? -1 : 1))
        .slice(0, 5),
});
