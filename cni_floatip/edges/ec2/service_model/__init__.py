"""The SDK's description of EC2 and STS, cut down to the operations that we call.

Reading the full description is most of what a client costs: 830 operations, 3 MB. The files beside this one
are generated from the installed botocore (Apache-2.0) by ``python -m cni_floatip.edges.ec2.service_model``, and a test says
when they no longer fit. Nothing here is edited by hand.
"""
