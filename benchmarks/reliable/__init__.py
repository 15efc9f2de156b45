"""What benchmarks.reliability measures, one figure of reliability a file."""
