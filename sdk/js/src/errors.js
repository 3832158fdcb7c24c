// Errors of the SDK: a code with a page of its own, what happened, and what to do next.

/** An error that says what to do. `tandem explain <code>` tells more. */
export class CloudError extends Error {
    constructor(code, message, help = "") {
        super(message);
        this.name = "CloudError";
        this.code = code;
        this.help = help;
    }
}

/** Where the program called the SDK: `index.js:3:14`. */
export function place() {
    for (const line of new Error().stack.split("\n")) {
        const found = frame(line);
        if (found !== "" && !found.startsWith("tandem:")) return found;
    }
    return "";
}

/**
 * The place in a line of a stack: `    at make (index.js:3:14)`. By hand, because this is done for every resource and a
 * regular expression that is not tied to the line's beginning tries every place of it.
 */
function frame(line) {
    const end = line.endsWith(")") ? line.length - 1 : line.length;
    const begin = Math.max(line.lastIndexOf(" ", end), line.lastIndexOf("(", end)) + 1;
    const found = line.slice(begin, end);
    const parts = found.split(":");
    const isNumber = (part) => part !== "" && Number.isInteger(Number(part));
    return parts.length >= 3 && isNumber(parts.at(-1)) && isNumber(parts.at(-2)) ? found : "";
}
