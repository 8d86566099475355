// Ask for a forecast from Node: a stock Redis client, and the published schemas.
//
//   npm ci && NVP_REDIS_URL=$(nvp account url ace-1) node forecast.mjs
import { createHash, randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import Ajv from "ajv/dist/2020.js";
import { createClient } from "redis";

const SIDE = 32;
const PATIENCE_MS = 60_000;
const TYPES = ["requested", "completed", "refused"].map((what) => `nvp.prediction.${what}.v1`);

function contract(options) {
  const ajv = new Ajv({ strict: false, validateFormats: false, ...options });
  for (const name of ["cloudevent", ...TYPES])
    ajv.addSchema(JSON.parse(readFileSync(new URL(`../../schemas/${name}.json`, import.meta.url))));
  return (name, value) => {
    if (!ajv.validate(name, value)) throw new Error(`${name}: ${ajv.errorsText()}`);
    return value;
  };
}
const written = contract({}); // writers invent nothing
const read = contract({ removeAdditional: true }); // readers drop what they do not know, so that it can grow

// Two frames of a blob on its way to the right, the older one first: raw little-endian float32.
const cells = Array.from({ length: 2 * SIDE ** 2 }, (_, i) => {
  const [frame, y, x] = [Math.floor(i / SIDE ** 2), Math.floor(i / SIDE) % SIDE, i % SIDE];
  return 1 + Math.exp(-((x - 12 - 2 * frame) ** 2 + (y - 16) ** 2) / 18);
});
const raw = Buffer.from(Float32Array.from(cells).buffer);
const digest = "sha256:" + createHash("sha256").update(raw).digest("hex");
const field = { shape: [2, SIDE, SIDE], digest, inline: raw.toString("base64") };
const data = { domain: "plasma_physics", field, inline_answer: true };
const request = written("urn:nvp:schema:cloudevent", {
  specversion: "1.0",
  id: randomUUID(),
  source: "urn:example:node",
  type: TYPES[0],
  time: new Date().toISOString(),
  deadline: new Date(Date.now() + PATIENCE_MS).toISOString(),
  budgetmj: "2000", // millijoules, a decimal string
  data: written(`urn:nvp:schema:${TYPES[0]}`, data),
});

const url = new URL(process.env.NVP_REDIS_URL);
const stream = (name) => `nvp:{${url.username}}:${name}`; // the braces are part of the key
const redis = await createClient({ url: url.href }).connect();
let [{ id: position } = { id: "0-0" }] = await redis.xRevRange(stream("replies"), "+", "-", { COUNT: 1 });
await redis.xAdd(stream("predict"), "*", { event: JSON.stringify(request) });
let reply;
while (!reply && Date.now() < Date.parse(request.deadline)) {
  const found = await redis.xRead({ key: stream("replies"), id: position }, { BLOCK: 1000 });
  for (const { id, message } of found?.[0].messages ?? []) {
    position = id;
    if (message.replyto === request.id) reply = read("urn:nvp:schema:cloudevent", JSON.parse(message.event));
  }
}
await redis.close();

if (!reply) throw new Error("no reply in time; is a worker running?");
const { code, detail, mean, energy, model_id } = read(reply.dataschema, reply.data);
if (code) throw new Error(`${code}: ${detail}`);
const forecast = new Float32Array(new Uint8Array(Buffer.from(mean.inline, "base64")).buffer);
const average = forecast.reduce((sum, value) => sum + value, 0) / forecast.length;
console.log(`mean ${average.toFixed(4)} of ${mean.shape.join(" x ")} cells, ${energy.mj / 1000} J by ${model_id}`);
