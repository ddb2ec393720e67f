"use strict";
// The REST flow of the 2019 server, as its own users would call it: the client holds its keys,
// makes acts one and three, and hands over the transport keys with act three.

async function post(url, body) {
  const response = await fetch(url, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  const text = await response.text();
  if (!response.ok) throw new Error(`${url} answered ${response.status}: ${text}`);
  return JSON.parse(text);
}

// `initiate(peer's public key)` returns the act one of a handshake and a function from act two to
// act three with its keys; `decode` says what a peer's init holds, or throws.
async function main(initiate, decode) {
  const [relay, peer] = process.argv.slice(2);
  const [nodeId] = (peer ?? "").split("@");
  if (!/^0[23][0-9a-f]{64}$/.test(nodeId)) {
    throw new Error("usage: CLIENT http://RELAY PUBKEY@HOST:PORT");
  }
  const { actOne, finish } = initiate(Buffer.from(nodeId, "hex"));
  const { id, message } = await post(`${relay}/api/connect`, {
    url: peer,
    message: actOne.toString("hex"),
  });
  const { actThree, keys } = finish(Buffer.from(message, "hex"));
  const hex = Object.entries(keys).map(([name, key]) => [name, key.toString("hex")]);
  const answer = await post(`${relay}/api/handshake/${id}`, {
    message: actThree.toString("hex"),
    keys: Object.fromEntries(hex),
  });
  const decoded = decode(Buffer.from(answer.message, "hex"));
  console.log(JSON.stringify({ ok: true, id, init: answer.message, ...decoded }));
}

exports.run = (initiate, decode) =>
  main(initiate, decode).catch((error) => {
    console.error(error.message, error.cause ?? "");
    process.exitCode = 1;
  });
