// What `@pulumi/pulumi` offers, as far as it exists here.

export { Config, getProject, getStack, log, runtime } from "./config.js";
export { Output, all, concat, interpolate, isSecret, output, secret, unsecret } from "./output.js";
export { Resource } from "./resource.js";

// For `import cloud from …`, which works with a CommonJS package of that name.
import * as everything from "./pulumi.js";
export default everything;
