//! The OpenAPI document as a page: plain HTML without a script, so it works wherever the API does.

use std::fmt::Write as _;

use serde_json::Value;

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}\
code{font-family:ui-monospace,monospace}table{border-collapse:collapse;margin:.5rem 0;width:100%}\
td,th{text-align:left;vertical-align:top;padding:.2rem .6rem;border-bottom:1px solid #8886}\
section{margin-top:2.5rem}:root{color-scheme:light dark}";

/// The page of this document.
pub(super) fn page(document: &Value) -> String {
    let title = text(&document["info"]["title"]);
    let mut out = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>{title}: JSON API</title><style>{STYLE}</style></head><body><main>\
         <h1>{title} {}: JSON API</h1><p>{}</p><p><a href=\"openapi.json\">openapi.json</a> is the same for programs.</p>",
        text(&document["info"]["version"]),
        text(&document["info"]["description"]),
    );
    for (path, methods) in entries(&document["paths"]) {
        for (method, operation) in entries(methods) {
            out.push_str(&section(path, method, operation));
        }
    }
    out.push_str("<h2>Types</h2>");
    for (name, schema) in entries(&document["components"]["schemas"]) {
        let _ = write!(
            out,
            "<section id=\"{name}\"><h3>{name}</h3><p>{}</p>",
            text(&schema["description"])
        );
        out.push_str("<table><thead><tr><th>Field<th>Type<th>Meaning</tr></thead><tbody>");
        for (field, of) in entries(&schema["properties"]) {
            let _ = write!(
                out,
                "<tr><td><code>{}</code><td>{}<td>{}</tr>",
                escaped(field),
                kind(of),
                text(&of["description"])
            );
        }
        out.push_str("</tbody></table></section>");
    }
    out.push_str("</main></body></html>\n");
    out
}

fn section(path: &str, method: &str, operation: &Value) -> String {
    let mut out = format!(
        "<section><h2><code>{} {}</code></h2><p>{}</p><p>{}</p>",
        method.to_uppercase(),
        escaped(path),
        text(&operation["summary"]),
        text(&operation["description"]),
    );
    let parameters = operation["parameters"].as_array();
    for parameter in parameters.into_iter().flatten() {
        let _ = write!(
            out,
            "<p><code>{}</code> ({}, {}): {}</p>",
            text(&parameter["name"]),
            text(&parameter["in"]),
            kind(&parameter["schema"]),
            text(&parameter["description"]),
        );
    }
    let body = &operation["requestBody"]["content"]["application/json"]["schema"];
    if !body.is_null() {
        let _ = write!(out, "<p>Body: {}</p>", kind(body));
    }
    out.push_str("<table><thead><tr><th>Status<th>Type<th>Meaning</tr></thead><tbody>");
    for (status, answer) in entries(&operation["responses"]) {
        let schema = entries(&answer["content"]).next();
        let schema = schema.map_or(String::new(), |(_, content)| kind(&content["schema"]));
        let _ = write!(
            out,
            "<tr><td>{}<td>{schema}<td>{}</tr>",
            escaped(status),
            text(&answer["description"])
        );
    }
    out.push_str("</tbody></table></section>");
    out
}

/// What type a schema stands for, in words.
fn kind(schema: &Value) -> String {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = escaped(reference.rsplit('/').next().unwrap_or(reference));
        return format!("<a href=\"#{name}\">{name}</a>");
    }
    match &schema["type"] {
        Value::String(of) if of == "array" => format!("list of {}", kind(&schema["items"])),
        Value::String(of) => escaped(of),
        Value::Array(several) => {
            let names: Vec<_> = several.iter().filter_map(Value::as_str).collect();
            escaped(&names.join(" or "))
        }
        _ => String::new(),
    }
}

fn entries(object: &Value) -> impl Iterator<Item = (&String, &Value)> {
    object.as_object().into_iter().flatten()
}

fn text(value: &Value) -> String {
    escaped(value.as_str().unwrap_or_default())
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
