#!/usr/bin/env python3
"""Writes jinja2_cases.json.gz: what Jinja2 3.1 makes of the templates below, in the configuration that Transformers uses.

    python3 gen.py ollama_cases.json

ollama_cases.json has 20 prompt formats x 3 conversations with the prompts that ollama makes. Each format has a template here, written for
this test; Jinja2 is the reference, and the field "ollama" tells whether it agrees with ollama. The other templates each go through some
part of the language, with every conversation of CONVERSATIONS.
"""
import gzip, json, sys
from datetime import datetime
import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment


class Generation(Extension):
    tags = {"generation"}

    def parse(self, parser):
        lineno = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return nodes.CallBlock(self.call_method("_pass"), [], [], body).set_lineno(lineno)

    def _pass(self, caller):
        return caller()


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
env.filters["tojson"] = tojson
env.globals["raise_exception"] = raise_exception
env.globals["strftime_now"] = lambda f: datetime(2025, 3, 4, 5, 6, 7).strftime(f)

EACH = "{% for message in messages %}"
ROLES = EACH + "{% if message['role'] == 'system' %}{{ SYSTEM }}{% elif message['role'] == 'user' %}{{ USER }}{% else %}{{ ASSISTANT }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ PROMPT }}{% endif %}"


def roles(system, user, assistant, prompt):
    def lit(s):
        parts = s.split("¤")
        return " + message['content'] + ".join(repr(p) for p in parts)
    return ROLES.replace("SYSTEM", lit(system)).replace("USER", lit(user)).replace("ASSISTANT", lit(assistant)).replace("PROMPT", repr(prompt))


FIRST_SYSTEM = """{%- if messages[0].role == 'system' %}
    {%- set system = messages[0].content %}
    {%- set rest = messages[1:] %}
{%- else %}
    {%- set system = '' %}
    {%- set rest = messages %}
{%- endif %}
"""
FORMATS = {
    "alfred": roles("<start_system>¤<end_message>", "<start_user>¤<end_message>", "<start_assistant>¤<end_message>", "<start_assistant>"),
    "alpaca": roles("¤\n\n", "### Instruction:\n¤\n\n", "### Response:\n¤\n\n", "### Response:\n"),
    "chatml": EACH + "{{'<|im_start|>' ~ message.role ~ '\\n' ~ message.content ~ '<|im_end|>\\n'}}{% endfor %}{{ '<|im_start|>assistant\\n' if add_generation_prompt }}",
    "chatqa": EACH + "{{ message.role | capitalize + ': ' + message.content + '\\n\\n' }}{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}",
    "codellama-70b-instruct": EACH + "{{ 'Source: %s' | format(message.role) }}\n\n {{ message.content | trim }}{{ ' <step> ' }}{% endfor %}Source: assistant\nDestination: user\n\n ",
    "command-r": "{%- set names = {'system': 'SYSTEM', 'user': 'USER', 'assistant': 'CHATBOT'} %}\n" + EACH + "<|START_OF_TURN_TOKEN|><|{{ names[message.role] }}_TOKEN|>{{ message.content }}<|END_OF_TURN_TOKEN|>{% endfor %}{% if add_generation_prompt %}<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>{% endif %}",
    "falcon-instruct": roles("System: ¤\n", "User:\n¤\n", "Falcon:\n¤\n", "Falcon:\n"),
    "gemma-instruct": FIRST_SYSTEM + """{%- for m in rest %}
    {%- if m.role == 'assistant' %}{% set role = 'model' %}{% else %}{% set role = m.role %}{% endif %}
    {{- '<start_of_turn>' + role + '\\n' + (system + '\\n' if loop.first and system else '') + m.content | trim + '<end_of_turn>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}""",
    "gemma3-instruct": FIRST_SYSTEM + """{%- for m in rest -%}
    {{ '<start_of_turn>' + {'assistant': 'model'}.get(m['role'], m['role']) + '\\n' }}
    {%- if loop.index0 == 0 and system %}{{ system + '\\n\\n' }}{% endif -%}
    {{ m['content'] | trim }}{{ '<end_of_turn>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<start_of_turn>model\\n' }}{%- endif -%}
""",
    "granite-instruct": roles("System:\n¤\n\n", "Question:\n¤\n\n", "Answer:\n¤\n\n", "Answer:\n"),
    "llama2-chat": FIRST_SYSTEM + """{%- for m in rest %}
    {%- if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}
    {%- if m.role == 'user' %}
        {{- (bos_token if not loop.first else '') + '[INST] ' + ('<<SYS>>\\n' + system + '\\n<</SYS>>\\n\\n' if loop.first and system else '<<SYS>><</SYS>>\\n\\n') + m.content + ' [/INST]' }}
    {%- else %}
        {{- ' ' + m.content + eos_token }}
    {%- endif %}
{%- endfor %}""",
    "llama3-instruct": EACH + "{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' %}{{ content }}{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}",
    "magicoder": roles("¤\n\n", "@@ Instruction\n¤\n\n", "@@ Response\n¤\n\n", "@@ Response\n"),
    "mistral-instruct": FIRST_SYSTEM + """{%- for m in rest %}
    {%- if m.role == 'user' %}
        {{- '[INST] ' }}{% if loop.first and system %}{{ system ~ '\\n\\n' }}{% endif %}{{ m.content ~ '[/INST]' }}
    {%- elif m.role == 'assistant' %}
        {{- ' ' ~ m.content ~ eos_token }}
    {%- endif %}
{%- endfor %}""",
    "openchat": EACH + "{{ 'GPT4 Correct ' + message['role'].title() + ': ' + message['content'] + '<|end_of_turn|>'}}{% endfor %}{% if add_generation_prompt %}{{ 'GPT4 Correct Assistant:' }}{% endif %}",
    "phi-3": EACH + "<|{{ message.role }}|>\n{{ message.content }}<|end|>\n{% endfor %}{% if add_generation_prompt %}<|assistant|>\n{{ '' }}{% endif %}\n",
    "solar-instruct": roles("### System:\n¤\n\n", "### User:\n¤\n\n", "### Assistant:\n¤</s>\n\n", "### Assistant:\n"),
    "starcoder2-instruct": roles("¤\n\n", "### Instruction\n¤\n\n", "### Response\n¤<|endoftext|>\n\n", "### Response\n"),
    "vicuna": roles("¤\n\n", "USER: ¤\n", "ASSISTANT: ¤</s>\n", "ASSISTANT:"),
    "zephyr": EACH + "\n{% if message['role'] == 'user' %}\n{{ '<|user|>\n' + message['content'] + eos_token }}\n{% elif message['role'] == 'system' %}\n{{ '<|system|>\n' + message['content'] + eos_token }}\n{% elif message['role'] == 'assistant' %}\n{{ '<|assistant|>\n'  + message['content'] + eos_token }}\n{% endif %}\n{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}",
}

WEATHER = {"type": "function", "function": {"name": "get_weather", "description": "Wie ist das Wetter? <b>&</b> \"'é😀",
           "parameters": {"type": "object", "properties": {"zone": {"type": "string", "enum": ["c", "f"]}, "city": {"type": "string"}, "n": {"default": 1.0, "max": 1e-07, "min": -1e22}}, "required": ["city"], "none": None, "empty": [{}, []]}}}
CALL = {"role": "assistant", "content": None, "tool_calls": [{"id": "call12345", "type": "function", "function": {"name": "get_weather", "arguments": {"city": "Paris", "b": True, "a": [1, 2.5, None]}}}]}
U = lambda c: {"role": "user", "content": c}
A = lambda c: {"role": "assistant", "content": c}
S = lambda c: {"role": "system", "content": c}
CONVERSATIONS = {
    "user": [U("Hello & <b>'world'</b> \"q\"\\")],
    "system": [S(" Be nice.\u00a0\n"), U(" Hi\n\tthere\r\n ")],
    "long": [S("Sys"), U("Q1"), A("A1"), U("Q2 日本 😀"), A("<think>\nhmm\n</think>\n\nA2"), U("")],
    "assistant first": [A("first"), U("x"), U("y")],
    "call": [U("Weather?"), CALL, {"role": "tool", "tool_call_id": "call12345", "name": "get_weather", "content": "{\"t\": 21}"}, A("It is 21.")],
    "parts": [{"role": "user", "content": [{"type": "text", "text": "see"}, {"type": "image"}]}, {"role": "assistant", "x": {"z": 1, "a": 2}}],
    "none": [],
}
FEATURES = {
    "white space": "  {% if true %}  \n  a  {% endif %}  \n{%- if true %}\n\n b \n{%+ if true %} c {%+ endif +%}\n{% endif -%}   \n  d {{- ' e ' -}}  \n f {# comment #}\n  {# another -#}  \n g\n   {%- set x = 1 -%}   h  \n {{ x }} {%- for i in [1] -%} i {%- endfor %} j  \n\t{% if x %}k{% endif %}\n",
    "two newlines at the end": "a\n\n",
    "carriage returns": "a\r\n{% if true %}\r\nb\r\n{% endif %}\r\nc\r\n",
    "minus behind an expression": "x  {{ 'a' }}{%- if true %} b{% endif %}\n {{ 'c' }}  {{- 'd' }} e",
    "raw": "{% raw %}{{ not }} {% if %} {# this #}{% endraw %}\n{%- raw -%} a {%- endraw %} b {% raw %}\nc\n  {% endraw %}\nd",
    "escapes": "{{ 'a\\n\\t\\r\\\\ \\' \\\" \\x41 \\u00e9 \\101 \\q' }}{{ \"it's\" }}{{ 'two' ' and ' 'three' }}",
    "braces": "{{ {'a': {'b': {}}} }}{{ {'x': '}}'}['x'] }}{% set d = {'a': [1, {'b': 2}]} %}{{ d.a[1].b }}{{ d['a'].0 }}",
    "printed": "{{ none }} {{ true }} {{ 1.0 }} {{ 1e3 }} {{ 0.1 + 0.2 }} {{ [1, 'a', \"b'c\", none, true, 2.5] }} {{ {'k': 'v\\n', 'e': 'é'} }} {{ missing }} {{ 7 // 2 }} {{ 7 / 2 }}",
    "powers and remainders": "{{ 2 ** 3 }} {{ -7 % 3 }} {{ -7 // 2 }}",
    "repeat": "{{ 'ab' * 2 }}{{ ('a' ~ 1) + '2' }}",
    "joined": "{{ none ~ 1 ~ missing ~ 'x' ~ 1.5 ~ [1] }}{{ 'a' ~ 1 + 2 }}{{ 'a' + 'b' * 3 }}",
    "add to none": "{% for m in messages %}{{ m['role'] + ': ' + m['content'] }}{% endfor %}",
    "add to missing": "{% for m in messages %}{{ m['role'] + m['name'] }}{% endfor %}",
    "add number": "{% for m in messages %}{{ m.role + loop.index }}{% endfor %}",
    "missing of missing": "{{ messages[0]['a']['b'] }}",
    "missing of a name": "{{ nothing.at }}",
    "missing is tested": "{% if nothing is defined and nothing.at %}a{% endif %}{% if messages[0].a is not defined %}b{% endif %}{{ messages[9] is defined }}{{ (messages[0].a.b is defined) if messages and messages[0].a is defined else 'no' }}",
    "loop over none": "{% for c in messages[1].content %}[{{ c }}]{% endfor %}",
    "loop over a mapping": "{% for m in messages %}{% for k in m %}{{ k }} {% endfor %}{% for k, v in m.items() %}{{ k }}={{ v }};{% endfor %}{% endfor %}",
    "set inside a loop": "{% set x = 0 %}{% for m in messages %}{% if x is defined %}{{ x }}{% endif %}{% set x = loop.index %}{% if loop.first %}{% set y = 1 %}{% endif %}{{ y is defined }}{% endfor %}{{ x }}",
    "namespace": "{% set ns = namespace(n=0, last='') %}{% for m in messages %}{% if m.role == 'user' %}{% set ns.n = ns.n + 1 %}{% set ns.last = m.content %}{% endif %}{% endfor %}{{ ns.n }} {{ ns.last }}",
    "loop variables": "{% for m in messages if m.role != 'system' %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.previtem.role if loop.previtem is defined }}{{ loop.nextitem is defined }}{{ loop.cycle('a', 'b') }} {% else %}nobody{% endfor %}",
    "break and continue": "{% for m in messages %}{% if m.role == 'system' %}{% continue %}{% endif %}{% set r = m.role %}{{ r }} {% if loop.index > 3 %}{% break %}{% endif %}{% endfor %}",
    "slices": "{{ messages[::-1] | length }}{{ messages[-1].role if messages }}{{ 'abcdef'[1:4] }}{{ 'abcdef'[-2:] }}{{ 'abc'[::-1] }}{{ 'héllo'[1] }}{{ [1, 2, 3][:-1] }}",
    "strip": "{% for m in messages %}{% if m.content is string %}[{{ m.content.strip() }}|{{ m.content.lstrip('\\n ') }}|{{ m.content.rstrip('\\n') }}|{{ m.content | trim }}|{{ m.content.strip('H') }}]{% endif %}{% endfor %}",
    "split": "{% for m in messages %}{% if m.content is string and '</think>' in m.content %}{{ m.content.split('</think>')[-1].lstrip('\\n') }}|{{ m.content.split('</think>', 1)[0].split('<think>')[-1] }}|{{ m.content.rsplit('\\n', 1) }}|{{ m.content.split() }}{% endif %}{% endfor %}{{ 'a,b,c'.split(',', 1) }}{{ 'a--b'.partition('--') | length }}",
    "string methods": "{{ 'aBc dEf'.title() }}{{ 'aBc'.capitalize() }}{{ 'x'.upper() }}{{ 'X'.lower() }}{{ 'abc'.startswith('ab') }}{{ 'abc'.endswith('bc') }}{{ 'abcabc'.replace('b', 'x') }}{{ 'abcabc'.replace('b', 'x', 1) }}{{ ', '.join(['a', 'b']) }}{{ 'abc'.find('c') }}{{ 'a\\nb'.splitlines() }}{{ '12'.isdigit() }}",
    "filters": "{{ 'aBc dEf' | title }}{{ 'aBc' | capitalize }}{{ 'a' | upper }}{{ [3, 1, 2] | sort | join('-') }}{{ [1, 2] | first }}{{ 'abc' | last }}{{ ['a', 'b'] | join }}{{ [{'k': 'x'}, {'k': 'y'}] | map(attribute='k') | join(',') }}{{ messages | selectattr('role', 'equalto', 'user') | list | length }}{{ 'a' | replace('a', 'b') }}{{ missing | default('d') }}{{ '' | default('e', true) }}{{ 3.7 | int }}{{ '5' | int + 1 }}{{ 'abc' | length }}{{ none | string }}{{ [1, 2] | string }}{{ ' x ' | trim }}{{ -3 | abs }}{{ [1, 2, 3] | sum }}{{ ['a', 'a', 'b'] | unique | list }}{{ 'a b' | wordcount }}{{ [1, none, 2] | reject('none') | list }}{{ 'x' | string | upper }}",
    "tuples are printed": "{{ {'a': 1} | items | list }}{{ {'b': 1, 'a': 2} | dictsort }}{{ (1, 2) }}",
    "length of none": "{% for m in messages %}{{ m.content | length }}{% endfor %}",
    "indent": "{{ 'a\\nb\\n\\nc' | indent(2) }}{{ 'a\\nb' | indent(2, true) }}{{ 'a\\nb' | indent(width=3, first=true) }}",
    "tojson": "{{ tools | tojson }}\n{{ tools | tojson(indent=4) }}\n{{ tools[0] | tojson(indent=2, sort_keys=true) }}\n{{ tools | tojson(ensure_ascii=true) }}\n{{ tools | tojson(separators=(',', ':')) }}\n{% for m in messages %}{{ m | tojson }}{% endfor %}{{ 'a\\u2028\\x7f\\x00\\u001f' | tojson }}{{ 12345678901234567 | tojson }}",
    "tojson of missing": "{{ missing | tojson }}",
    "macro": "{% macro show(m, sep=': ', end='\\n') -%}\n  {{ m.role }}{{ sep }}{{ m.content }}{{ end }}\n{%- endmacro %}\n{% for m in messages %}{{ show(m) }}{{ show(m, sep='=') }}{{ show(m, '-', '') }}{% endfor %}",
    "call": "{% macro wrap(tag) %}<{{ tag }}>{{ caller() }}</{{ tag }}>{% endmacro %}{% for m in messages %}{% call wrap(m.role) %}{{ m.content }}{% endcall %}{% endfor %}",
    "set block": "{% set x %}{% for m in messages %}{{ m.role }},{% endfor %}{% endset %}{{ x | upper }}{{ x | length }}",
    "tests": "{{ 1 is odd }}{{ 2 is even }}{{ 'a' is string }}{{ none is none }}{{ 1 is number }}{{ {} is mapping }}{{ [] is iterable }}{{ 'a' is iterable }}{{ [] is sequence }}{{ 'a' is sequence }}{{ true is boolean }}{{ 1 is integer }}{{ 1.5 is float }}{{ 'a' in 'abc' }}{{ 1 in [1] }}{{ 'a' not in {'b': 1} }}{{ not 1 is odd }}{{ 1 is not even and 2 is even }}{{ true is true }}{{ 3 is eq(3) }}{{ 'a' is in ['a'] }}",
    "divisibleby": "{{ 4 is divisibleby 2 }}",
    "comparisons": "{{ 1 == 1.0 }}{{ 'a' < 'b' }}{{ 1 <= 2 }}{{ [1] == [1] }}{{ 'a' != 'b' }}{{ none == none }}{{ '1' == 1 }}{{ 1 < 2 and 2 < 3 or false }}{{ (1 if false) is defined }}{{ 'x' if 1 > 2 else 'y' if false else 'z' }}",
    "true is a number": "{{ true == 1 }}",
    "compare with missing": "{{ missing < 1 }}",
    "date": "{{ strftime_now('%d %b %Y') }}{{ strftime_now('%Y-%m-%d %H:%M:%S %A %B %j %p %I %y %%') }}",
    "raise": "{% if messages[0].role != 'user' %}{{ raise_exception('want a user, not ' + messages[0].role) }}{% endif %}ok",
    "call of missing": "{{ nothing() }}",
    "unknown filter": "{{ 'a' | nothing }}",
    "unknown tag": "{% nothing %}",
    "unclosed": "{% if true %}",
    "generation": "{% for m in messages %}{% if m.role == 'assistant' %}<a>{% generation %}{{ m.content }}{{ eos_token }}{% endgeneration %}\n{% else %}<u>{{ m.content }}\n{% endif %}{% endfor %}",
    "generation and white space": "{%- for m in messages %}\n  {%- if m.role == 'assistant' %}\n    {%- generation %}\n  {{ m.content }}\n    {%- set z = 1 %}\n    {%- endgeneration %}\n    {{ z is defined }}\n  {% endif %}\n{%- endfor %}",
    "tool calls": "{% for m in messages %}{% if m.tool_calls %}{% for c in m.tool_calls %}{% set f = c.function %}{\"name\": \"{{ f.name }}\", \"arguments\": {{ f.arguments | tojson }}}{% for k, v in f.arguments | items %}{{ k }}={{ v if v is string else v | tojson }};{% endfor %}{% endfor %}{% elif m.content is string %}{{ m.content }}{% elif m.content is iterable %}{% for p in m.content %}{{ p.type }}{% if 'text' in p %}{{ p['text'] }}{% endif %}{% endfor %}{% endif %}{% endfor %}",
    "variables go around": "{% set messages = messages[1:] %}{% set loop_messages = messages %}{{ loop_messages | length }}{% if not date_string is defined %}{% set date_string = '26 Jul 2024' %}{% endif %}{{ date_string }}{% if tools is none %}no{% endif %}{% if documents is defined and documents %}d{% endif %}",
    "range": "{{ range(3) | list }}{% for i in range(2, 8, 3) %}{{ i }}{% endfor %}{{ range(3, 0, -1) | list }}{% for i in range(messages | length) %}{{ messages[i].role }}{% endfor %}",
    "range without end": "{{ range(1000000) | length }}",
    "macro without end": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "list methods": "{% set l = [] %}{% for m in messages %}{% set _ = l.append(m.role) %}{% endfor %}{{ l }}",
    "set of several names": "{% set a, b = 1, 2 %}{{ a }}",
}


def render(source, variables):
    try:
        return {"expected": env.from_string(source).render(**variables)}
    except Exception as e:  # the sandbox, the language, Python
        return {"error": f"{type(e).__name__}: {e}"[:150]}


def main():
    templates, cases = {}, []
    agree = 0
    for c in json.load(open(sys.argv[1])):
        name = "ollama " + c["format"]
        eos, bos = "</s>", "<s>"
        templates[name] = FORMATS[c["format"]]
        r = render(templates[name], dict(messages=c["messages"], add_generation_prompt=True, bos_token=bos, eos_token=eos, tools=None, documents=None))
        r["ollama"] = r.get("expected") == c["expected"]
        agree += r["ollama"]
        if not r["ollama"]:
            print(name, c["conversation"], r, repr(c["expected"]), sep="\n  ")
        cases.append(dict(template=name, case=c["conversation"], messages=c["messages"], add_generation_prompt=True, **r))
    for name, source in FEATURES.items():
        templates[name] = source
        for conversation, messages in CONVERSATIONS.items():
            r = render(source, dict(messages=messages, add_generation_prompt=False, bos_token="<s>", eos_token="</s>", tools=[WEATHER], documents=None))
            cases.append(dict(template=name, case=conversation, messages=messages, add_generation_prompt=False, tools=[WEATHER], **r))
    out = dict(jinja2=jinja2.__version__, templates=templates, cases=cases)
    with open("jinja2_cases.json.gz", "wb") as f:
        f.write(gzip.compress(json.dumps(out, ensure_ascii=False).encode(), 9, mtime=0))
    print(len(templates), "templates", len(cases), "cases", sum("error" in c for c in cases), "errors", agree, "of 60 as ollama")


main()
