// Of Node.js, what the typings name.
interface Buffer extends Uint8Array {}
