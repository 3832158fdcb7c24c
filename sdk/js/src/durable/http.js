// HTTP requests that the cloud makes for an orchestrator.

import { invalid } from "../check.js";

export class DurableHttpRequest {
    constructor(method, uri, content, headers, tokenSource, asynchronousPatternEnabled = true) {
        if (tokenSource !== undefined && tokenSource !== null) throw noIdentity();
        Object.assign(this, { method, uri, content, headers, tokenSource, asynchronousPatternEnabled });
    }
}

export class DurableHttpResponse {
    constructor(statusCode, content, headers) {
        Object.assign(this, { statusCode, content, headers });
    }

    /** A header, whatever its case. */
    getHeader(name) {
        const known = Object.keys(this.headers ?? {}).find((key) => key.toLowerCase() === name.toLowerCase());
        return known === undefined ? undefined : this.headers[known];
    }
}

const noIdentity = () =>
    invalid(
        "a ManagedIdentityTokenSource needs Azure's identities, which are not here",
        "send a token of your own: pass a header `Authorization`",
    );

/** There are no managed identities outside of Azure. */
export class ManagedIdentityTokenSource {
    constructor() {
        throw noIdentity();
    }
}
