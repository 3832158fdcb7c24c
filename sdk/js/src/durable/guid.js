// GUIDs that are the same on every replay: those of the published library, bit for bit.

import { createHash } from "crypto";

// The library hands name and namespace to its UUID package the other way round; so do we.
const NAME = "9e952958-5e33-4daf-827f-2fa12937b875";

const sha1 = (...parts) => {
    const hash = createHash("sha1");
    parts.forEach((part) => hash.update(part));
    return hash.digest();
};

/** A version 5 UUID (RFC 4122, section 4.3) of a text. */
export function guidOf(text) {
    const namespace = sha1(text).subarray(0, 16);
    const bytes = sha1(namespace, NAME).subarray(0, 16);
    bytes[6] = (bytes[6] & 0x0f) | 0x50;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
    return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}
