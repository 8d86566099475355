// Each FILE through the official AsyncAPI parser: one line an error or warning.
import { fromFile, Parser } from "@asyncapi/parser";

const WARNING = 1; // 0 is an error; more than 1 is advice

for (const file of process.argv.slice(2)) {
  const { diagnostics } = await fromFile(new Parser(), file).parse();
  for (const { severity, code, path, message } of diagnostics)
    if (severity <= WARNING) console.log(`${file}: ${code} at ${path.join(".")}: ${message}`);
}
