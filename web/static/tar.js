// Packs a folder as one .tar without reading it: a Blob of headers and of the files
// themselves, so that any part of it can be read, and read again after a break.
window.Tar = (() => {
  const BLOCK = 512;
  const encoder = new TextEncoder();
  const octal = (value, digits) => `${value.toString(8).padStart(digits, "0")}\0`;

  const header = (name, size, seconds, type) => {
    const block = new Uint8Array(BLOCK);
    const put = (text, at) => block.set(encoder.encode(text), at);
    put(name, 0);
    put(octal(0o644, 7), 100);
    put(octal(0, 7), 108);
    put(octal(0, 7), 116);
    put(octal(size, 11), 124);
    put(octal(seconds, 11), 136);
    put(" ".repeat(8), 148); // the sum is taken with blanks in its own place
    put(type, 156);
    put("ustar\u000000", 257);
    put(`${octal(block.reduce((sum, byte) => sum + byte, 0), 6)} `, 148);
    return block;
  };
  const padding = (size) => new Uint8Array((BLOCK - (size % BLOCK)) % BLOCK);

  // A header holds 100 bytes of plain letters; other names go into a record of their own.
  const longName = (path, seconds) => {
    const record = ` path=${path}\n`;
    const length = encoder.encode(record).length;
    let whole = length + 1;
    while (String(whole).length + length > whole) whole += 1;
    const body = encoder.encode(`${whole}${record}`);
    return [header("path", body.length, seconds, "x"), body, padding(body.length)];
  };

  // `files` are pairs of a path below the folder and a File.
  const pack = (name, files) => {
    const sorted = [...files].sort(([one], [other]) => (one < other ? -1 : 1));
    const parts = [];
    const seen = [];
    for (const [path, file] of sorted) {
      const seconds = Math.max(0, Math.floor(file.lastModified / 1000));
      const plain = /^[\x20-\x7e]{1,100}$/.test(path);
      if (!plain) parts.push(...longName(path, seconds));
      parts.push(header(plain ? path : "long", file.size, seconds, "0"), file, padding(file.size));
      seen.push(`${path}|${file.size}|${file.lastModified}`);
    }
    parts.push(new Uint8Array(2 * BLOCK));
    return { name: `${name}.tar`, blob: new Blob(parts), seen: seen.join("\n") };
  };
  return { pack };
})();
