// What `@tandem/cloud` offers: all of it.

export * from "./cloud.js";
export * from "./pulumi.js";
export { CloudError } from "./errors.js";
