"use strict";
// A wallet on the seed author's own packages, bolt08 and bolt02.

const { Handshake, Role } = require("bolt08");
const { LightningMessage, Message } = require("bolt02");
const { run } = require("./rest.js");

function initiate(remotePublicKey) {
  const handshake = new Handshake({});
  const first = handshake.actDynamically({ role: Role.INITIATOR, remotePublicKey });
  const finish = (actTwo) => {
    const third = handshake.actDynamically({ incomingBuffer: actTwo });
    const { sendingKey, receivingKey, chainingKey } = third.transmissionHandler;
    return {
      actThree: third.responseBuffer,
      keys: { sending: sendingKey, receiving: receivingKey, chaining: chainingKey },
    };
  };
  return { actOne: first.responseBuffer, finish };
}

function decode(message) {
  const init = LightningMessage.parse(message);
  if (!(init instanceof Message.InitMessage)) {
    throw new Error("the peer's first message is no init");
  }
  return {
    globalFeatures: init.values.global_features.toString("hex"),
    features: init.values.local_features.toString("hex"),
  };
}

run(initiate, decode);
