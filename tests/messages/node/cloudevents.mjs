// Events on standard input, one a line, through the official CloudEvents SDK, which checks them; out again the same way.
import { createInterface } from "node:readline";
import { CloudEvent, HTTP } from "cloudevents";

for await (const line of createInterface({ input: process.stdin })) {
  console.log(HTTP.structured(new CloudEvent(JSON.parse(line))).body);
}
