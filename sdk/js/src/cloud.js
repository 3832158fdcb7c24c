// What `@pulumi/cloud` offers, as far as it exists here.

export { Bucket } from "./bucket.js";
export { Function } from "./function.js";
export { Run, Task } from "./task.js";
