// What `@pulumi/cloud` offers, as far as it exists here.

export { Bucket } from "./bucket.js";
export { Function } from "./function.js";
export { Service } from "./service.js";
export { Queue } from "./queue.js";
export { Stream } from "./stream.js";
export { Run, Task } from "./task.js";
export * as timer from "./timer.js";
export { Topic } from "./topic.js";
export { HostPathVolume, SharedVolume } from "./volume.js";
export { Entity, entity } from "./entity.js";
export { Workflow, workflow } from "./workflow.js";

// For `import cloud from …`, which works with a CommonJS package of that name.
import * as everything from "./cloud.js";
export default everything;
