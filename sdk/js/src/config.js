// The stack's configuration, its name, and messages to the person who deploys.

import { CloudError } from "./errors.js";
import { deploying, fail, surroundings } from "./host.js";
import { invalid, shown } from "./check.js";
import { secret } from "./output.js";

export const getProject = () => surroundings().project;
export const getStack = () => surroundings().stack;

/** Of `@pulumi/pulumi`: whether this is a preview. */
export const runtime = { isDryRun: () => deploying() && surroundings().dryRun === true };

const reveal = (value) => (value?.$tandem === "secret" ? value.value : value);

/** Settings of one namespace; without one, the project's. */
export class Config {
    constructor(namespace) {
        this.name = namespace ?? getProject();
    }

    #find(key) {
        if (typeof key !== "string" || key === "")
            throw invalid(`a configuration key is a text, not ${shown(key)}`, "");
        const { config, project } = surroundings();
        const found = config[`${this.name}:${key}`] ?? (this.name === project ? config[key] : undefined);
        return reveal(found);
    }

    #required(key, value) {
        if (value !== undefined) return value;
        const full = this.name === getProject() ? key : `${this.name}:${key}`;
        throw new CloudError(
            "E0506",
            `the setting "${full}" is missing`,
            `run \`tandem config set ${full} VALUE\``,
        );
    }

    get(key) {
        const value = this.#find(key);
        return value === undefined || typeof value === "string" ? value : JSON.stringify(value);
    }
    getBoolean(key) {
        const text = this.get(key);
        if (text === undefined || text === "true" || text === "false")
            return text === undefined ? undefined : text === "true";
        throw invalid(`the setting "${key}" is true or false, not ${shown(text)}`, "");
    }
    getNumber(key) {
        const text = this.get(key);
        if (text === undefined) return undefined;
        const number = Number(text);
        if (text.trim() === "" || Number.isNaN(number))
            throw invalid(`the setting "${key}" is a number, not ${shown(text)}`, "");
        return number;
    }
    getObject(key) {
        const value = this.#find(key);
        if (typeof value !== "string") return value;
        try {
            return JSON.parse(value);
        } catch (error) {
            throw invalid(`the setting "${key}" is not JSON: ${error.message}`, "");
        }
    }

    require(key) {
        return this.#required(key, this.get(key));
    }
    requireBoolean(key) {
        return this.#required(key, this.getBoolean(key));
    }
    requireNumber(key) {
        return this.#required(key, this.getNumber(key));
    }
    requireObject(key) {
        return this.#required(key, this.getObject(key));
    }

    getSecret(key) {
        const value = this.get(key);
        return value === undefined ? undefined : secret(value);
    }
    requireSecret(key) {
        return secret(this.require(key));
    }
    getSecretObject(key) {
        const value = this.getObject(key);
        return value === undefined ? undefined : secret(value);
    }
    requireSecretObject(key) {
        return secret(this.requireObject(key));
    }
    getSecretNumber(key) {
        const value = this.getNumber(key);
        return value === undefined ? undefined : secret(value);
    }
    requireSecretNumber(key) {
        return secret(this.requireNumber(key));
    }
    getSecretBoolean(key) {
        const value = this.getBoolean(key);
        return value === undefined ? undefined : secret(value);
    }
    requireSecretBoolean(key) {
        return secret(this.requireBoolean(key));
    }
}

const say = (prefix) => async (message) => void console.error(`${prefix}${message}`);

/** Messages go to stderr. An error also ends the deployment. */
export const log = {
    debug: say("debug: "),
    info: say(""),
    warn: say("warning: "),
    async error(message) {
        console.error(`error: ${message}`);
        if (deploying()) fail(new Error(String(message)));
    },
};
