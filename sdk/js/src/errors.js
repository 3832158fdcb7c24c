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

const FRAME = /\(?([^\s()]+):(\d+):(\d+)\)?$/;

/** Where the program called the SDK: `index.js:3:14`. */
export function place() {
    for (const line of new Error().stack.split("\n")) {
        const found = FRAME.exec(line);
        if (found !== null && !found[1].startsWith("tandem:")) return `${found[1]}:${found[2]}:${found[3]}`;
    }
    return "";
}
