// What `@pulumi/pulumi` offers, as far as it exists here.

export { Config, getProject, getStack, log, runtime } from "./config.js";
export { Output, all, concat, interpolate, isSecret, output, secret, unsecret } from "./output.js";
export { Resource } from "./resource.js";
