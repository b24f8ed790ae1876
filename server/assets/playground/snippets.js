// The request as code. The login comes from the environment: the page does not know it.

const shell = (text) => (/^[\w./@%+=:,-]+$/.test(text) ? text : `'${text.replaceAll("'", String.raw`'\''`)}'`);

// In an unquoted file name, `;` and `,` are syntax for curl.
const curlFile = (name) => (/[;,"\\]/.test(name) ? `"${name.replace(/["\\]/g, String.raw`\$&`)}"` : name);

const write = {
  curl: (address, name) => `curl -u "$SECRET_USERNAME:$SECRET_PASSWORD" \\
  -F ${shell(`image=@${curlFile(name)}`)} \\
  ${shell(address)}
`,

  python: (address, name) => `import os
import requests

with open(${JSON.stringify(name)}, "rb") as picture:
    response = requests.post(
        ${JSON.stringify(address)},
        # The server requires UTF-8; given a str, the library requests would use Latin-1.
        auth=(os.environ["SECRET_USERNAME"].encode(), os.environ["SECRET_PASSWORD"].encode()),
        files={"image": picture},
        timeout=30,
    )
response.raise_for_status()
for found in response.json()["predictions"]:
    print(found["label"], found["probability"], found["box"])
`,

  javascript: (address, name) => `import { openAsBlob } from "node:fs";

const { SECRET_USERNAME, SECRET_PASSWORD } = process.env;
const login = Buffer.from(\`\${SECRET_USERNAME}:\${SECRET_PASSWORD}\`).toString("base64");
const form = new FormData();
form.append("image", await openAsBlob(${JSON.stringify(name)}), "picture");
const response = await fetch(${JSON.stringify(address)}, {
  method: "POST",
  headers: { Authorization: \`Basic \${login}\` },
  body: form,
});
if (!response.ok) throw new Error(await response.text());
for (const { label, probability, box } of (await response.json()).predictions) {
  console.log(label, probability, box);
}
`,
};

/** The code of the request, in `language`: it sends the picture `name` to `address`. */
export const snippet = (language, address, name) => write[language](address, name);
