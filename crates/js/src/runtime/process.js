// `node:process`.

export default process;
export const {
    arch,
    argv,
    cwd,
    env,
    exit,
    hrtime,
    nextTick,
    pid,
    platform,
    stderr,
    stdout,
    uptime,
    version,
    versions,
} = process;
