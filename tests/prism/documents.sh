#!/bin/sh
# Fetches the OpenAPI documents that vendors publish as npm packages, for the contract tests:
#
#   tests/prism/documents.sh <folder>
#   CEDARGATE_GITHUB_OPENAPI=<folder>/github.json CEDARGATE_N8N_OPENAPI=<folder>/n8n.yml \
#       cargo test -p handlers --test vendor_openapi
#
# Versions are pinned, so that a test that fails has one reason.
set -eu

folder=${1:?usage: documents.sh <folder>}
mkdir -p "$folder"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# package, version, path inside it, name here
fetch() {
    (cd "$work" && npm pack --silent "$1@$2" >/dev/null && tar xzf ./*.tgz && rm ./*.tgz)
    cp "$work/package/$3" "$folder/$4"
    rm -rf "$work/package"
}

fetch @octokit/openapi 23.0.2 generated/api.github.com.json github.json
fetch n8n 2.8.4 dist/public-api/v1/openapi.yml n8n.yml
