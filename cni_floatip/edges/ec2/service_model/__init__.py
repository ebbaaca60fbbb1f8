"""The part of EC2's and STS's service descriptions that the product calls.

Reading the full description is most of what a client costs: 830 operations, 3 MB. The files beside this one
are generated from the installed botocore (Apache-2.0) by ``python -m cni_floatip.edges.ec2.service_model``;
a test fails when they no longer fit. Do not edit them by hand.
"""
