import createClient from "openapi-fetch";
import type { paths } from "./api.js";
const client = createClient<paths>({ baseUrl: process.env.HOOKLINE_URL!, headers: { Authorization: `Bearer ${process.env.HOOKLINE_API_KEY}` } });
async function main() {
  const published = await client.POST("/v1/events", { body: {
    specversion: "1.0", id: "ts-1", source: "/ts", type: "ADD_ARTIFACT_ALIAS",
    data: { entity: "acme", project: "models", author: "", alias: "production", collection: { name: "churn", type: "model" },
      artifact: { id: "a1", version: "v3", aliases: ["production"], tags: [], metadata: { accuracy: 0.93 } } } } });
  if (published.data?.accepted !== 1) throw new Error(JSON.stringify(published.error));
  const created = await client.POST("/v1/entities/{entity}/automations", { params: { path: { entity: "acme" } }, body: {
    name: "ts", enabled: true, event: "RUN_METRIC", scope: { project: "churn" }, filter: { "run.name": { $contains: "x" } },
    conditions: [{ metric: "loss", op: "$gt", threshold: 0.5, window: 1 }], cooldown: { per: "run", period: "1h" }, action: { no_op: true } } });
  if (created.data?.event !== "RUN_METRIC") throw new Error(JSON.stringify(created.error));
  const changed = await client.PATCH("/v1/entities/{entity}/automations/{automation_id}", { params: { path: { entity: "acme", automation_id: created.data.id } }, body: { enabled: false } });
  if (changed.data?.enabled !== false) throw new Error(JSON.stringify(changed.error));
  const listed = await client.GET("/v1/entities/{entity}/deliveries", { params: { path: { entity: "acme" }, query: { status: ["dead", "refused"], since: "1h" } } });
  if (!Array.isArray(listed.data?.items)) throw new Error(JSON.stringify(listed.error));
  const replayed = await client.POST("/v1/entities/{entity}/deliveries/replay", { params: { path: { entity: "acme" } }, body: { status: ["dead"], unreplayed: true } });
  if (replayed.data?.replayed === undefined) throw new Error(JSON.stringify(replayed.error));
  console.log("ok");
}
main().catch((fault) => { console.error(fault); process.exit(1); });
