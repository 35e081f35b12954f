// Checks requests with `standardwebhooks` and `svix` for Node.js: JSON on stdin, the verdicts of each library on stdout.
import { readFileSync } from "node:fs";
import * as standardwebhooks from "standardwebhooks";
import * as svix from "svix";

const verdict = (library, { secret, body, headers }) => {
  const webhook = secret.startsWith("whsec_")
    ? new library.Webhook(secret)
    : new library.Webhook(Buffer.from(secret, "utf-8"), { format: "raw" });
  try {
    webhook.verify(body, headers);
    return true;
  } catch (error) {
    if (error instanceof library.WebhookVerificationError) return false;
    throw error;
  }
};

const requests = JSON.parse(readFileSync(0, "utf-8"));
process.stdout.write(
  JSON.stringify({
    standardwebhooks: requests.map((one) => verdict(standardwebhooks, one)),
    svix: requests.map((one) => verdict(svix, one)),
  }),
);
