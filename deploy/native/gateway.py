#!/usr/bin/python3
"""Makes nginx settings of Kong's declarative file, so that tests go through a gateway that routes,
limits and answers as Kong would.

Understood is what the file uses; anything else is refused rather than left out. What nginx does
otherwise: requests are counted in its own memory instead of Redis, and by the second only.
"""

import argparse
import json
import math
import re
import sys

import yaml

UNITS = {"bytes": 1, "kilobytes": 1 << 10, "megabytes": 1 << 20}


class Unsupported(Exception):
    """Something in the file that this program doesn't know."""


def take(mapping, known, where):
    """Refuses keys that aren't known."""
    unknown = set(mapping) - set(known)
    if unknown:
        raise Unsupported(f"{where}: {', '.join(sorted(unknown))}")
    return mapping


def quoted(text):
    """A string of nginx. A dollar sign can't be escaped there, so there may be none."""
    if "$" in text:
        raise Unsupported(f"a dollar sign in {text}")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def seconds(milliseconds):
    return f"{math.ceil(milliseconds / 1000)}s"


def listed(values):
    return ", ".join(values)


class Plugins:
    """Plugins that hold for all routes, as directives of nginx."""

    KNOWN = ("pre-function", "correlation-id", "cors", "rate-limiting", "request-size-limiting")

    def __init__(self, plugins):
        self.by_name = {}
        for plugin in plugins:
            take(plugin, ("name", "config"), "plugin")
            if plugin["name"] not in self.KNOWN:
                raise Unsupported(f"plugin {plugin['name']}")
            self.by_name[plugin["name"]] = plugin["config"]

    def http(self):
        yield from self.request_id()
        yield from self.origins()
        yield from self.rate()

    def request_id_header(self):
        return self.by_name["correlation-id"]["header_name"]

    def request_id(self):
        config = self.by_name["correlation-id"]
        take(config, ("header_name", "generator", "echo_downstream"), "correlation-id")
        name = self.request_id_header().lower().replace("-", "_")
        # The pre-function is Lua; what it does is said again here.
        yield f"map $http_{name} $correlation_id {{"
        yield '    "~^[A-Za-z0-9_.:/-]{1,128}$" $http_' + name + ";"
        yield "    default $request_id;"
        yield "}"

    def origins(self):
        config = self.by_name["cors"]
        take(
            config,
            ("origins", "credentials", "methods", "headers", "exposed_headers", "max_age",
             "preflight_continue"),
            "cors",
        )
        if config["preflight_continue"] or not config["credentials"]:
            raise Unsupported("cors: preflight_continue, or no credentials")
        yield "map $http_origin $cors_origin {"
        for origin in config["origins"]:
            yield f"    {quoted(origin)} $http_origin;"
        yield '    default "";'
        yield "}"
        for variable, value in (
            ("cors_credentials", "true"),
            ("cors_exposed", listed(config["exposed_headers"])),
        ):
            yield f"map $cors_origin ${variable} {{"
            yield '    "" "";'
            yield f"    default {quoted(value)};"
            yield "}"
        # A preflight is an OPTIONS request that says which method is to follow.
        yield 'map "$request_method $http_access_control_request_method" $preflight {'
        yield '    "~^OPTIONS ." 1;'
        yield "    default 0;"
        yield "}"

    def rate(self):
        config = self.by_name["rate-limiting"]
        take(
            config,
            ("second", "minute", "limit_by", "policy", "fault_tolerant", "hide_client_headers",
             "redis"),
            "rate-limiting",
        )
        if config["limit_by"] != "ip":
            raise Unsupported(f"rate-limiting: limit_by {config['limit_by']}")
        yield f"limit_req_zone $binary_remote_addr zone=clients:1m rate={config['second']}r/s;"
        yield "limit_req_status 429;"

    def server(self):
        cors = self.by_name["cors"]
        rate = self.by_name["rate-limiting"]
        size = self.by_name["request-size-limiting"]
        take(size, ("allowed_payload_size", "size_unit", "require_content_length"),
             "request-size-limiting")
        yield f"limit_req zone=clients burst={rate['second']} nodelay;"
        yield f"client_max_body_size {size['allowed_payload_size'] * UNITS[size['size_unit']]};"
        yield from self.requests()
        yield from self.answer_headers()
        yield "error_page 429 = @too-many;"
        yield "if ($preflight) { return 418; }"
        yield "error_page 418 = @preflight;"
        yield "location @preflight {"
        for line in self.answer_headers():
            yield f"    {line}"
        yield f"    add_header Access-Control-Allow-Methods {quoted(listed(cors['methods']))};"
        yield f"    add_header Access-Control-Allow-Headers {quoted(listed(cors['headers']))};"
        yield f"    add_header Access-Control-Max-Age {cors['max_age']};"
        yield "    return 200;"
        yield "}"
        yield "location @too-many {"
        for line in self.answer_headers():
            yield f"    {line}"
        yield "    add_header Retry-After 1 always;"
        yield "    default_type application/json;"
        yield "    return 429 '{\"message\":\"API rate limit exceeded\"}';"
        yield "}"

    def requests(self):
        """What each service is told."""
        name = self.request_id_header()
        yield "proxy_http_version 1.1;"
        for header, value in (
            ("Host", "$http_host"),
            ("Upgrade", "$http_upgrade"),
            ("Connection", "$connection_upgrade"),
            ("X-Forwarded-For", "$proxy_add_x_forwarded_for"),
            ("X-Forwarded-Proto", "$scheme"),
            ("X-Real-IP", "$remote_addr"),
            (name, "$correlation_id"),
        ):
            yield f"proxy_set_header {header} {value};"
        # The gateway answers with it itself.
        yield f"proxy_hide_header {name};"

    def answer_headers(self):
        """What each answer gets, said again wherever a location adds more; nginx leaves empty ones
        out."""
        name = self.request_id_header()
        yield f"add_header {name} $correlation_id always;"
        yield "add_header Vary Origin always;"
        yield "add_header Access-Control-Allow-Origin $cors_origin always;"
        yield "add_header Access-Control-Allow-Credentials $cors_credentials always;"
        yield "add_header Access-Control-Expose-Headers $cors_exposed always;"


def location(path):
    """Kong's path as a location, and its rank: regular expressions come first, longer prefixes
    before shorter ones."""
    if path.startswith("~"):
        return f"~ {quoted_pattern('^' + path[1:])}", (1, 0)
    return path, (0, len(path))


def quoted_pattern(pattern):
    """A regular expression in quotes, where a dollar sign at its end is taken as it is."""
    if '"' in pattern or "$" in pattern[:-1]:
        raise Unsupported(f"the path {pattern}")
    return f'"{pattern}"'


def forward(service, route, offset, hosts):
    take(route, ("name", "paths", "regex_priority", "strip_path", "preserve_host",
                 "request_buffering", "response_buffering", "methods"), f"route {route['name']}")
    if route["strip_path"] or not route["preserve_host"] or "methods" in route:
        raise Unsupported(f"route {route['name']}: strip_path, another host, or methods")
    address = hosts.get(service["name"], f"127.0.0.1:{service['port'] + offset}")
    yield f"proxy_pass {service['protocol']}://{address};"
    yield f"proxy_connect_timeout {seconds(service['connect_timeout'])};"
    yield f"proxy_send_timeout {seconds(service['write_timeout'])};"
    yield f"proxy_read_timeout {seconds(service['read_timeout'])};"
    if service["retries"] == 0:
        yield "proxy_next_upstream off;"
    for key, directive in (
        ("request_buffering", "proxy_request_buffering"),
        ("response_buffering", "proxy_buffering"),
    ):
        if not route.get(key, True):
            yield f"{directive} off;"


# What a route says that no service answers: a body around the id of the request.
OWN_ANSWER = re.compile(
    r"""local id = kong\.request\.get_header\("(?P<header>[\w-]+)"\)
local body = '(?P<before>[^'\\]*)' \.\. id \.\. '(?P<after>[^'\\]*)'
return kong\.response\.exit\((?P<status>[0-9]{3}), body, \{ \["Content-Type"\] = "(?P<type>[\w.+/-]+)" \}\)
"""
)


def answer(route, plugins):
    """A route without a service, whose plugin answers in Lua: of that, only this one shape."""
    take(route, ("name", "paths", "strip_path", "plugins"), f"route {route['name']}")
    (plugin,) = route["plugins"]
    take(plugin, ("name", "config"), f"route {route['name']}")
    if plugin["name"] != "post-function":
        raise Unsupported(f"route {route['name']}: plugin {plugin['name']}")
    (lua,) = take(plugin["config"], ("access",), "post-function")["access"]
    found = OWN_ANSWER.fullmatch(lua)
    if not found or found["header"] != plugins.request_id_header():
        raise Unsupported(f"route {route['name']}: {lua}")
    json.loads(found["before"] + found["after"])
    body = quoted(found["before"])[:-1] + "$correlation_id" + quoted(found["after"])[1:]
    yield f"default_type {found['type']};"
    yield f"return {found['status']} {body};"


def locations(kong, plugins, offset, hosts):
    """Each path's location, in the order in which nginx has to try them."""
    found = []
    for service in kong["services"]:
        take(service, ("name", "host", "port", "protocol", "retries", "connect_timeout",
                       "write_timeout", "read_timeout", "routes"), f"service {service['name']}")
        for route in service["routes"]:
            body = list(forward(service, route, offset, hosts))
            found += [(path, route, body) for path in route["paths"]]
    for route in kong["routes"]:
        body = list(answer(route, plugins))
        found += [(path, route, body) for path in route["paths"]]
    ranked = []
    for path, route, body in found:
        match, rank = location(path)
        ranked.append((-rank[0], -route.get("regex_priority", 0), -rank[1], match, body))
    ranked.sort(key=lambda entry: entry[:3])
    return [(match, body) for *_, match, body in ranked]


def settings(kong, arguments):
    take(kong, ("_format_version", "_transform", "services", "routes", "plugins"), "file")
    plugins = Plugins(kong["plugins"])
    hosts = dict(pair.split("=", 1) for pair in arguments.upstream)
    home = arguments.home
    yield "# Generated from kong.yml; changes are lost."
    yield f"pid {home}/nginx.pid;"
    yield "worker_processes 1;"
    yield "error_log stderr warn;"
    yield "events { worker_connections 4096; }"
    yield "http {"
    body = [
        "access_log off;",
        "server_tokens off;",
        "large_client_header_buffers 8 16k;",
        "map $http_upgrade $connection_upgrade {",
        "    default upgrade;",
        '    "" "";',
        "}",
    ]
    for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"):
        body.append(f"{kind}_temp_path {home}/{kind};")
    body += plugins.http()
    body.append("server {")
    server = [f"listen {arguments.listen};", "merge_slashes off;", *plugins.server()]
    for match, directives in locations(kong, plugins, arguments.port_offset, hosts):
        server.append(f"location {match} {{")
        server += [f"    {line}" for line in directives]
        server.append("}")
    body += [f"    {line}" for line in server]
    body.append("}")
    yield from (f"    {line}" for line in body)
    yield "}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", help="Kong's declarative file")
    parser.add_argument("--listen", default="127.0.0.1:8000", metavar="ADDRESS:PORT")
    parser.add_argument("--home", required=True, help="where nginx may write")
    parser.add_argument("--port-offset", type=int, default=0,
                        help="is added to the services' ports")
    parser.add_argument("--upstream", action="append", default=[], metavar="SERVICE=ADDRESS:PORT",
                        help="where a service is, instead of its port on loopback")
    arguments = parser.parse_args()
    with open(arguments.file, encoding="utf-8") as file:
        kong = yaml.safe_load(file)
    try:
        print("\n".join(settings(kong, arguments)))
    except Unsupported as refusal:
        sys.exit(f"{arguments.file} has what no settings can be made of: {refusal}")


if __name__ == "__main__":
    main()
