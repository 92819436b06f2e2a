// Reads an ONNX file's `metadata_props`, which ONNX Runtime Web does not expose: pairs of strings.
// An ONNX file is a Protocol Buffers message: a sequence of fields, each with a number, a wire type and a value.
const METADATA_PROPS = 14; // in `ModelProto`
const [VARINT, EIGHT_BYTES, BY_LENGTH] = [0, 1, 2];

/** Return the pairs in the file (Uint8Array) as an object of strings. Throws an Error if it ends within a field. */
export function readMetadata(file) {
  const found = {};
  for (const [field, pair] of listFields(file)) {
    if (field !== METADATA_PROPS) continue;
    const [key, value] = Array.from(listFields(pair), ([, text]) => new TextDecoder().decode(text));
    found[key] = value;
  }
  return found;
}

/** Yield the message's fields that are not varints: [field number, bytes]. */
function* listFields(message) {
  let at = 0;
  const readVarint = () => {
    let value = 0;
    for (let factor = 1; ; factor *= 128) {
      if (at >= message.length) throw new Error("The file is no ONNX file, or its end is missing.");
      const byte = message[at++];
      value += (byte & 127) * factor;
      if (byte < 128) return value;
    }
  };
  while (at < message.length) {
    const tag = readVarint();
    const kind = tag & 7;
    if (kind === VARINT) {
      readVarint();
      continue;
    }
    const length = kind === BY_LENGTH ? readVarint() : kind === EIGHT_BYTES ? 8 : 4;
    yield [tag >>> 3, message.subarray(at, at + length)];
    at += length;
  }
}
