// `node:module`.

import { createRequire } from "./commonjs.js";
import { host } from "./host.js";

const builtinModules = host.builtins;
const isBuiltin = (name) => builtinModules.includes(name.replace(/^node:/, ""));

export { builtinModules, createRequire, isBuiltin };
export default { builtinModules, createRequire, isBuiltin };
