// What `@tandem/cloud` offers: all of it.

export * from "./cloud.js";
export * from "./pulumi.js";
export { CloudError } from "./errors.js";

// For `import cloud from …`, which works with a CommonJS package of that name.
import * as everything from "./tandem.js";
export default everything;
