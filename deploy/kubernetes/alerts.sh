#!/bin/sh
# Prints the PrometheusRule of components/alerts from ../monitoring/alerts.yaml: kustomize reads nothing outside its own
# directory, and a second copy kept by hand would drift. deploy/check.sh compares. To renew it:
#   deploy/kubernetes/alerts.sh > deploy/kubernetes/components/alerts/prometheusrule.yaml
set -eu
cat <<'HEAD'
# Made by deploy/kubernetes/alerts.sh from deploy/monitoring/alerts.yaml: edit that.
# For the Prometheus operator. Add the label that your Prometheus selects rules by, often `release: ...`.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: campos-operator
spec:
HEAD
sed -n '/^groups:/,$ s/^./  &/p' "$(dirname "$0")/../monitoring/alerts.yaml"
