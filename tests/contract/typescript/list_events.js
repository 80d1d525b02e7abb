// Lists the events of a compartment with Oracle's TypeScript SDK, and prints them as one JSON array.
"use strict";

const { AuditClient } = require("oci-audit");
const { ConfigFileAuthenticationDetailsProvider } = require("oci-common");

async function main(configPath, url, compartmentId, start, end) {
  const client = new AuditClient({
    authenticationDetailsProvider: new ConfigFileAuthenticationDetailsProvider(configPath),
  });
  client.endpoint = url;
  const request = { compartmentId, startTime: new Date(start), endTime: new Date(end) };
  const events = [];
  for await (const event of client.listEventsRecordIterator(request)) {
    events.push(event);
  }
  process.stdout.write(JSON.stringify(events));
}

main(...process.argv.slice(2)).catch((error) => {
  process.stderr.write(`${error.statusCode} ${error.serviceCode}: ${error.message}\n`);
  process.exitCode = 1;
});
