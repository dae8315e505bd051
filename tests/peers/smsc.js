// An SMS centre on the npm package smpp: binds, takes, sends receipts and replies.
// Prints its port, then one JSON line for each message it took.
const smpp = require("smpp");

const say = (line) => process.stdout.write(JSON.stringify(line) + "\n");
const separate = process.argv.includes("separate"); // no transceivers
const ears = new Map(); // by system_id: the session that may be brought something
let last = 0;

function receipt(pdu, id) {
  return {
    source_addr: pdu.destination_addr,
    destination_addr: pdu.source_addr,
    esm_class: 4,
    data_coding: 0,
    short_message:
      `id:${id} sub:001 dlvrd:001 submit date:2611210930 ` +
      `done date:2611210931 stat:DELIVRD err:000 text:`,
  };
}

function reply(pdu, text) {
  return {
    source_addr: pdu.destination_addr,
    destination_addr: pdu.source_addr,
    data_coding: 8,
    short_message: text,
  };
}

const server = smpp.createServer({}, (session) => {
  const open = (kind) => (pdu) => {
    const good = pdu.password === "lab-pass";
    session.send(pdu.response({ command_status: good ? 0 : smpp.ESME_RINVPASWD }));
    if (!good) return;
    session.owner = pdu.system_id;
    session.kind = kind;
    if (kind !== "transmitter") ears.set(pdu.system_id, session);
    say({ bound: kind });
  };
  session.on("bind_transmitter", open("transmitter"));
  session.on("bind_receiver", open("receiver"));
  session.on("bind_transceiver", (pdu) => {
    if (!separate) return open("transceiver")(pdu);
    session.send(pdu.response({ command_status: smpp.ESME_RBINDFAIL }));
  });
  session.on("enquire_link", (pdu) => session.send(pdu.response()));
  session.on("unbind", (pdu) => session.send(pdu.response(), () => session.close()));
  session.on("error", () => {});
  session.on("submit_sm", (pdu) => {
    if (session.kind === "receiver") {
      session.send(pdu.response({ command_status: smpp.ESME_RINVBNDSTS }));
      return;
    }
    const ear = ears.get(session.owner);
    if (pdu.destination_addr.endsWith("9")) {
      session.send(pdu.response({ command_status: smpp.ESME_RINVDSTADR }));
      return;
    }
    const id = String(++last);
    const body = pdu.short_message;
    const udh = body.udh ? Array.from(body.udh[0]) : [];
    say({ to: pdu.destination_addr, coding: pdu.data_coding, text: body.message, udh });
    session.send(pdu.response({ message_id: id }));
    ear.deliver_sm(receipt(pdu, id), (answer) => say({ receipt: answer.command_status }));
    if (typeof body.message === "string" && body.message.startsWith("回")) {
      ear.deliver_sm(reply(pdu, "参加😀"), (answer) => say({ reply: answer.command_status }));
    }
  });
});

server.listen(0, "127.0.0.1", function () {
  process.stdout.write(`${this.address().port}\n`);
});
process.stdin.on("end", () => process.exit(0)).resume();
