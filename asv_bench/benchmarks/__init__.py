"""What asv measures, a file for each subject.

asv runs ``setup`` before every sample, and a sample may be a single call.  Where a call is short,
a sample is a loop of ``CALLS`` calls (see ``data``), and the time shown is that of the loop.
"""
