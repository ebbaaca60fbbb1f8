#!/bin/sh
# Leads an address to a network interface in every route table with a tag: the AWS CLI, as an engineer scripts it.
#
#   move.sh ENI ADDRESS TAG
set -eu
eni=$1 address=$2 tag=$3

tables=$(aws ec2 describe-route-tables --filters "Name=tag-key,Values=$tag" \
  --query 'RouteTables[].RouteTableId' --output text)
for table in $tables; do
  aws ec2 replace-route --route-table-id "$table" --destination-cidr-block "$address/32" \
    --network-interface-id "$eni" >/dev/null
done
