#!/usr/bin/env bash
# Makes a serving certificate for Tidepole with openssl, and an overlay of deploy/manifests that
# uses it. Prints the Secret and the caBundle that the overlay applies, for those who place them by
# other means.
#
#   deploy/certificates/openssl.sh [FOLDER [COMPONENT...]]      default: tidepole-certificates
#   kubectl apply --kustomize FOLDER
#
# FOLDER gets ca.crt, ca.key, tls.crt, tls.key and kustomization.yaml. An authority that is already
# there is used again, so a second call renews the certificate; nothing renews it by itself.
# COMPONENT is a folder beside this one: custom-metrics for metrics of pods and other objects.
set -euo pipefail

folder=${1:-tidepole-certificates}
deploy=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
manifests=$deploy/manifests
# The name under which the API server verifies the certificate, whatever address it dials.
name=tidepole.tidepole.svc

umask 077
mkdir -p "$folder"
cd "$folder"

key() { openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1" 2>/dev/null; }

if [[ ! -s ca.key || ! -s ca.crt ]]; then
    key ca.key
    openssl req -x509 -new -key ca.key -sha256 -days 3650 -subj "/CN=tidepole-ca" \
        -addext "basicConstraints=critical,CA:TRUE" \
        -addext "keyUsage=critical,keyCertSign,cRLSign" -out ca.crt
fi

key tls.key
openssl req -new -key tls.key -subj "/CN=$name" -out tls.csr
openssl x509 -req -in tls.csr -CA ca.crt -CAkey ca.key -sha256 -days 365 \
    -set_serial "0x$(openssl rand -hex 16)" -out tls.crt -extfile <(cat <<EXTENSIONS
basicConstraints=critical,CA:FALSE
keyUsage=critical,digitalSignature
extendedKeyUsage=serverAuth
subjectAltName=DNS:$name
EXTENSIONS
) 2>/dev/null
rm tls.csr

ca_bundle=$(openssl base64 -A -in ca.crt)
components=
for component in certificates/files "${@:2}"; do
    components+=$'\n'"  - $(realpath --relative-to=. "$deploy/$component")"
done

cat >kustomization.yaml <<KUSTOMIZATION
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources:
  - $(realpath --relative-to=. "$manifests")
components:$components
secretGenerator:
  - name: tidepole-serving
    namespace: tidepole
    type: kubernetes.io/tls
    files: [tls.crt, tls.key]
    # The server reads a new certificate without a restart, so the name may stay.
    options: { disableNameSuffixHash: true }
patches:
  - target: { kind: APIService }
    patch: |
      - op: add
        path: /spec/caBundle
        value: $ca_bundle
KUSTOMIZATION

cat <<SECRET
apiVersion: v1
kind: Secret
metadata: { name: tidepole-serving, namespace: tidepole }
type: kubernetes.io/tls
data:
  tls.crt: $(openssl base64 -A -in tls.crt)
  tls.key: $(openssl base64 -A -in tls.key)
---
# spec.caBundle of the APIService v1beta1.external.metrics.k8s.io:
# caBundle: $ca_bundle
SECRET
