// Writes components.jsonl: small tokenizers, one per component or option, and what Hugging Face's library makes of odd texts.
// Run: npm i @anush008/tokenizers@0.6.0 && node components.mjs > components.jsonl && gzip -9n components.jsonl
import { createRequire } from "module";
const { Tokenizer } = createRequire(process.cwd() + "/")("@anush008/tokenizers");

const chars = [..."abABi12 .,!$-_▁\né\u0307"];
// Merges across every kind of boundary, so that ids show where a text was cut.
const joins = ["a b", "b a", "▁ a", "a ▁", "b ▁", "▁ ▁", "1 2", "2 1", ". .", "a .", ". a", "a 1", "1 a", "b !", "! b", "▁a b", "- a", "a -", "A B", "_ a", "a _"];
function model(extra = {}, more = []) {
  const vocab = { "<unk>": 0 };
  const merges = joins.map((j) => j.split(" ").map((s) => s));
  for (const t of [...chars, ...more, ...merges.map((m) => m.join(""))]) if (!(t in vocab)) vocab[t] = Object.keys(vocab).length;
  const spaced = [["a", " "], [" ", "a"], ["b", " "], [" ", " "], ["\n", "a"], [".", " "], [" ", "1"]];
  for (const m of spaced) vocab[m.join("")] ??= Object.keys(vocab).length;
  return { type: "BPE", dropout: null, unk_token: "<unk>", continuing_subword_prefix: null, end_of_word_suffix: null, fuse_unk: false, byte_fallback: false, ignore_merges: false, vocab, merges: merges.concat(spaced), ...extra };
}
const bytes = [...Array(256).keys()].map((b) => `<0x${b.toString(16).toUpperCase().padStart(2, "0")}>`);
const alphabet = (() => {
  let n = 256;
  return [...Array(256).keys()].map((b) => String.fromCodePoint((b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174 ? b : n++));
})();
const byteModel = (extra = {}) => {
  const vocab = {};
  for (const t of [...alphabet, "Ġa", "aĠ", "ab", "Ġab", "12", "..", "a.", "ĠĠ"]) vocab[t] = Object.keys(vocab).length;
  return { ...model(), unk_token: null, vocab, merges: [["Ġ", "a"], ["a", "Ġ"], ["a", "b"], ["Ġa", "b"], ["1", "2"], [".", "."], ["a", "."], ["Ġ", "Ġ"]], ...extra };
};
const added = (content, o = {}) => ({ id: o.id ?? 900, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special: false, ...o });
const pre = (type, o = {}) => ({ pre_tokenizer: { type, ...o } });
const nrm = (...normalizers) => ({ normalizer: { type: "Sequence", normalizers } });
// The library panics where Strip's stop meets an empty token, so no case has one.
const dec = (...decoders) => ({ decoder: { type: "Sequence", decoders } });
const rep = (s, content) => ({ type: "Replace", pattern: { String: s }, content });
const split = (pattern, behavior, invert = false) => pre("Split", { pattern, behavior, invert });
const bl = { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true };
const llama3 = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
const meta = (o) => ({ type: "Metaspace", replacement: "▁", ...o });
const S = (id) => ({ SpecialToken: { id, type_id: 0 } }), A = { Sequence: { id: "A", type_id: 0 } };

const cases = {
  plain: {}, fuse_unk: { model: model({ fuse_unk: true }) }, no_unk: { model: model({ unk_token: null }) },
  byte_fallback: { model: model({ byte_fallback: true, fuse_unk: true }, bytes), ...dec(rep("▁", " "), { type: "ByteFallback" }, { type: "Fuse" }, { type: "Strip", content: " ", start: 1, stop: 0 }) },
  // Without any byte token; with a part of them the library puts bytes before the unknown character that precedes them.
  no_bytes: { model: model({ byte_fallback: true }) },
  ignore_merges: { model: byteModel({ ignore_merges: true }), pre_tokenizer: bl, decoder: bl },
  byte_level: { model: byteModel(), pre_tokenizer: bl, decoder: bl }, byte_prefix: { model: byteModel(), pre_tokenizer: { ...bl, add_prefix_space: true }, decoder: bl },
  byte_no_regex: { model: byteModel(), pre_tokenizer: { ...bl, use_regex: false }, decoder: bl },
  byte_then_split: { model: byteModel(), pre_tokenizer: { type: "Sequence", pretokenizers: [bl, { type: "Split", pattern: { String: "Ġ" }, behavior: "MergedWithPrevious", invert: false }] }, decoder: bl },
  llama3: { model: byteModel(), pre_tokenizer: { type: "Sequence", pretokenizers: [{ type: "Split", pattern: { Regex: llama3 }, behavior: "Isolated", invert: false }, { ...bl, use_regex: false }] }, decoder: bl },
  byte_normalizer: { model: byteModel(), normalizer: { type: "ByteLevel" }, decoder: bl },
  metaspace_always: { ...pre("Metaspace", { replacement: "▁", prepend_scheme: "always", split: true }), decoder: meta({ prepend_scheme: "always", split: true }), added_tokens: [added("<s>", { special: true })] },
  metaspace_first: { ...pre("Metaspace", { replacement: "▁", prepend_scheme: "first", split: true }), decoder: meta({ prepend_scheme: "first", split: true }), added_tokens: [added("<s>", { special: true })] },
  metaspace_never: { ...pre("Metaspace", { replacement: "▁", prepend_scheme: "never", split: false }), decoder: meta({ prepend_scheme: "never", split: false }) },
  metaspace_old: { ...pre("Metaspace", { replacement: "▁", add_prefix_space: true }), decoder: meta({ add_prefix_space: true }) },
  digits: pre("Digits", { individual_digits: true }), digit_runs: pre("Digits", { individual_digits: false }),
  whitespace: pre("Whitespace"), whitespace_split: pre("WhitespaceSplit"), punctuation: pre("Punctuation", { behavior: "Isolated" }),
  removed: split({ String: " " }, "Removed"), inverted: split({ Regex: "[a-z]+" }, "Removed", true), contiguous: split({ Regex: "[.!]" }, "Contiguous"),
  with_previous: split({ String: "." }, "MergedWithPrevious"), with_next: split({ String: "." }, "MergedWithNext"), regex: split({ Regex: "\\w+(?=\\.)|\\s" }, "Isolated"),
  nfc: nrm({ type: "NFC" }), nfd: nrm({ type: "NFD" }), nfkc: nrm({ type: "NFKC" }), nfkd: nrm({ type: "NFKD" }), lower: nrm({ type: "Lowercase" }),
  strip: nrm({ type: "Strip", strip_left: true, strip_right: true }), strip_right: nrm({ type: "Strip", strip_left: false, strip_right: true }),
  llama: { ...nrm({ type: "Prepend", prepend: "▁" }, rep(" ", "▁")), added_tokens: [added("<s>", { special: true }), added("ab!", { id: 901, normalized: true })] },
  replace_regex: nrm({ type: "Replace", pattern: { Regex: " +" }, content: "_" }),
  lstrip: { added_tokens: [added("<s>", { lstrip: true })] }, rstrip: { added_tokens: [added("<s>", { rstrip: true })] }, both: { added_tokens: [added("<s>", { lstrip: true, rstrip: true, special: true })] },
  single_word: { added_tokens: [added("ab", { single_word: true })] }, longest: { added_tokens: [added("ab "), added("abAB", { id: 901 }), added("ab", { id: 19 })] },
  template: { added_tokens: [added("<s>", { special: true }), added("</s>", { id: 901, special: true })], post_processor: { type: "Sequence", processors: [bl, { type: "TemplateProcessing", single: [S("<s>"), A, S("</s>")], pair: [A, { Sequence: { id: "B", type_id: 1 } }], special_tokens: { "<s>": { id: "<s>", ids: [900], tokens: ["<s>"] }, "</s>": { id: "</s>", ids: [901], tokens: ["</s>"] } } }] } },
  roberta: { added_tokens: [added("<s>", { special: true }), added("</s>", { id: 901, special: true })], post_processor: { type: "RobertaProcessing", sep: ["</s>", 901], cls: ["<s>", 900], trim_offsets: true, add_prefix_space: true } },
  strip_each: dec({ type: "Strip", content: "a", start: 1, stop: 0 }), strip_whole: dec({ type: "Fuse" }, { type: "Strip", content: "a", start: 2, stop: 0 }), late_replace: dec({ type: "Fuse" }, rep("ab1", "X")),
};
const texts = ["", " ", "ab", "  ab  ", "a b. ab!", "ab12 21a1.. a", "a<s> b<s>ab <s>  b", " <s>", "<s><s>  ", "ab! ab!b aab! ab", "abAB ab ABab ab-ab _ab ab.", "xyz ab xx", "a\n\nb \n a", "é e\u0301 ÀİA ﬁ² ½１", "日本 ab 👍🏽", "a▁b ▁▁ab", "a...b!!.a", "$1,2.1-_ab\u00a0a\u3000", "a" + "\u0301\u0323".repeat(20) + "b", "It's 123456 WE'LL\r\n\r\n  x", "\0\x01\x7f"];
for (const [name, c] of Object.entries(cases)) {
  const json = { version: "1.0", truncation: null, padding: null, added_tokens: [], normalizer: null, pre_tokenizer: null, post_processor: null, decoder: null, model: model(), ...c };
  // Ids of added tokens must follow the vocabulary's.
  const n = Object.keys(json.model.vocab).length;
  const tokenizer = JSON.stringify(json).replace(/\b90([01])\b/g, (_, d) => String(n + Number(d)));
  const t = Tokenizer.fromString(tokenizer);
  const rows = [];
  for (const text of texts) {
    const ids = (await t.encode(text, null, { addSpecialTokens: false })).getIds();
    const special = (await t.encode(text, null, { addSpecialTokens: true })).getIds();
    rows.push({ text, ids, special, decoded: await t.decode(special, false), skipped: await t.decode(special, true) });
  }
  console.log(JSON.stringify({ name, tokenizer, rows }));
}
